/** Weights of a block of Q4_0, Q4_1 and Q8_0. */
export const BLOCK_WEIGHTS = 32;

/** Words of 32 bits that the codes of such a block take while they are a byte each. */
export const CODE_WORDS = BLOCK_WEIGHTS / 4;

const HALF = CODE_WORDS / 2;

/**
 * Packs codes, words of four from `from` on, into halfwords from `to` on: the lower nibbles are those of the first `half` words, the upper ones those of the
 * next as many. Returns the OR of all the words, for `checkNibbles`.
 * @param half by default, half a block of 32: byte j is code j with code j + 16 above it
 */
export function packNibbles(codes: Uint32Array, from: number, out: Uint16Array, to: number, half = HALF): number {
  let seen = 0;
  for (let i = 0; i < half; i++) {
    const low = codes[from + i];
    const high = codes[from + half + i];
    seen |= low | high;
    const word = low | (high << 4);
    out[to + 2 * i] = word;
    out[to + 2 * i + 1] = word >>> 16;
  }
  return seen;
}

/** The inverse of `packNibbles`. */
export function unpackNibbles(packed: Uint16Array, from: number, codes: Uint32Array, to: number, half = HALF): void {
  for (let i = 0; i < half; i++) {
    const word = packed[from + 2 * i] | (packed[from + 2 * i + 1] << 16);
    codes[to + i] = word & 0x0f0f0f0f;
    codes[to + half + i] = (word >>> 4) & 0x0f0f0f0f;
  }
}

/** Throws `Error` where a code did not fit 4 bits: it has corrupted its neighbour. */
export function checkNibbles(seen: number): void {
  if ((seen & 0xf0f0f0f0) !== 0) throw new Error("A code does not fit 4 bits");
}
