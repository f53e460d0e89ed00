import type { Bits } from "../quantize/scheme.js";

/**
 * Where the codes of a matrix lie and where their words go. A *line* is what is packed into consecutive words: a row, or,
 * for what is packed along the other axis, a column. Strides count codes on one side and words on the other.
 */
export interface PackedLayout {
  readonly bits: Bits;
  readonly lines: number;
  /** Codes a line. */
  readonly length: number;
  readonly lineStride: number;
  readonly codeStride: number;
  readonly wordLineStride: number;
  readonly wordStride: number;
}

/** Words of 32 bits that `length` codes fill, the last one perhaps in part. */
export function wordsFor(length: number, bits: Bits): number {
  return Math.ceil((length * bits) / 32);
}

/** Codes [rows, cols], packed along the row: words [rows, wordsFor(cols)]. */
export function alongRows(rows: number, cols: number, bits: Bits): PackedLayout {
  return { bits, lines: rows, length: cols, lineStride: cols, codeStride: 1, wordLineStride: wordsFor(cols, bits), wordStride: 1 };
}

/** Codes [rows, cols], packed along the row and transposed: words [wordsFor(cols), rows]. */
export function alongRowsTransposed(rows: number, cols: number, bits: Bits): PackedLayout {
  return { ...alongRows(rows, cols, bits), wordLineStride: 1, wordStride: rows };
}

/** Codes [rows, cols], packed down the column: words [wordsFor(rows), cols]. */
export function alongCols(rows: number, cols: number, bits: Bits): PackedLayout {
  return { bits, lines: cols, length: rows, lineStride: 1, codeStride: cols, wordLineStride: 1, wordStride: cols };
}

/** Codes [rows, cols], packed down the column and transposed: words [cols, wordsFor(rows)]. */
export function alongColsTransposed(rows: number, cols: number, bits: Bits): PackedLayout {
  return { ...alongCols(rows, cols, bits), wordLineStride: wordsFor(rows, bits), wordStride: 1 };
}

// Lines are packed sixteen at a time into a scratch of their own, so that a layout whose lines lie side by side is written
// by whole cache lines of 64 bytes.
const TILE = 16;

/**
 * Packs codes into little-endian words, low bits first, without gaps; codes of 3 bits straddle words. Bits past the end of
 * a line are zero. Assumes a little-endian machine, as safetensors does of its bytes and ONNX Runtime of its host.
 *
 * Throws `Error` where a code does not fit its bits: it would corrupt its neighbours.
 */
export function packBits(codes: Uint8Array, layout: PackedLayout): Uint32Array<ArrayBuffer> {
  const { bits, lines, length, lineStride, codeStride, wordLineStride, wordStride } = layout;
  const words = wordsFor(length, bits);
  const out = new Uint32Array(lines * words);
  // Of 4 bits, whole words at a time.
  const quads = bits === 4 ? 2 * words : (length + 3) >> 2;
  const line = new Uint8Array(quads * 4);
  const line32 = new Uint32Array(line.buffer);
  const scratch = new Uint32Array(TILE * words);
  let seen = 0;
  for (let first = 0; first < lines; first += TILE) {
    const tile = Math.min(TILE, lines - first);
    for (let t = 0; t < tile; t++) {
      const start = (first + t) * lineStride;
      if (codeStride === 1) line.set(codes.subarray(start, start + length));
      else for (let i = 0; i < length; i++) line[i] = codes[start + i * codeStride]!;
      seen |= packLine(line32, quads, bits, scratch, t * words, words);
    }
    if (wordStride === 1) out.set(scratch.subarray(0, tile * words), first * wordLineStride);
    else for (let w = 0; w < words; w++) for (let t = 0; t < tile; t++) out[w * wordStride + first + t] = scratch[t * words + w]!;
  }
  if (((seen | (seen >>> 16) | (seen >>> 8) | (seen >>> 24)) & 0xff) >>> bits !== 0) throw new Error(`A code does not fit ${bits} bits`);
  return out;
}

/** Packs the codes of one line, four at a time: squeezed together to 4·bits bits, then appended. Returns the OR of all codes. */
function packLine(quads: Uint32Array, count: number, bits: Bits, out: Uint32Array, at: number, words: number): number {
  let seen = 0;
  if (bits === 8) {
    for (let i = 0; i < words; i++) out[at + i] = quads[i]!;
    return seen;
  }
  if (bits === 4) {
    for (let i = 0; i < words; i++) {
      const low = quads[2 * i];
      const high = quads[2 * i + 1];
      seen |= low | high;
      const lowPairs = (low | (low >>> 4)) & 0xff00ff;
      const highPairs = (high | (high >>> 4)) & 0xff00ff;
      out[at + i] = ((lowPairs | (lowPairs >>> 8)) & 0xffff) | ((highPairs | (highPairs >>> 8)) << 16);
    }
    return seen;
  }
  const pairMask = ((1 << (2 * bits)) - 1) * 0x10001;
  const quadMask = (1 << (4 * bits)) - 1;
  const pairShift = 8 - bits;
  const quadShift = 16 - 2 * bits;
  const end = at + words;
  let pending = 0;
  let filled = 0;
  for (let i = 0; i < count; i++) {
    const quad = quads[i];
    seen |= quad;
    const pairs = (quad | (quad >>> pairShift)) & pairMask;
    const four = (pairs | (pairs >>> quadShift)) & quadMask;
    pending |= four << filled;
    filled += 4 * bits;
    if (filled >= 32) {
      out[at++] = pending;
      filled -= 32;
      pending = four >>> (4 * bits - filled);
    }
  }
  // The last quad may reach into a word that holds padding alone.
  if (at < end) out[at] = pending;
  return seen;
}

/** The inverse of `packBits`: codes as they lay before. */
export function unpackBits(packed: Uint32Array, layout: PackedLayout): Uint8Array<ArrayBuffer> {
  const { bits, lines, length, lineStride, codeStride, wordLineStride, wordStride } = layout;
  const words = wordsFor(length, bits);
  const codes = new Uint8Array(lines * length);
  const quads = (length + 3) >> 2;
  const line = new Uint8Array(quads * 4);
  const line32 = new Uint32Array(line.buffer);
  const scratch = new Uint32Array(TILE * words);
  for (let first = 0; first < lines; first += TILE) {
    const tile = Math.min(TILE, lines - first);
    if (wordStride === 1) scratch.set(packed.subarray(first * wordLineStride, first * wordLineStride + tile * words));
    else for (let w = 0; w < words; w++) for (let t = 0; t < tile; t++) scratch[t * words + w] = packed[w * wordStride + first + t]!;
    for (let t = 0; t < tile; t++) {
      unpackLine(scratch, t * words, words, bits, line32, quads);
      const start = (first + t) * lineStride;
      if (codeStride === 1) codes.set(line.subarray(0, length), start);
      else for (let i = 0; i < length; i++) codes[start + i * codeStride] = line[i]!;
    }
  }
  return codes;
}

function unpackLine(packed: Uint32Array, at: number, words: number, bits: Bits, quads: Uint32Array, count: number): void {
  if (bits === 8) {
    for (let i = 0; i < count; i++) quads[i] = packed[at + i]!;
    return;
  }
  const codeMask = ((1 << bits) - 1) * 0x01010101;
  const pairMask = ((1 << (2 * bits)) - 1) * 0x10001;
  const quadMask = (1 << (4 * bits)) - 1;
  const pairShift = 8 - bits;
  const quadShift = 16 - 2 * bits;
  const end = at + words;
  let word = packed[at++];
  let used = 0;
  for (let i = 0; i < count; i++) {
    let four = word >>> used;
    used += 4 * bits;
    if (used >= 32) {
      used -= 32;
      word = at < end ? packed[at++] : 0;
      if (used > 0) four |= word << (4 * bits - used);
    }
    four &= quadMask;
    const pairs = (four | (four << quadShift)) & pairMask;
    quads[i] = (pairs | (pairs << pairShift)) & codeMask;
  }
}
