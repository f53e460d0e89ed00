import type { Bits } from "../quantize/scheme.js";

/** Packs codes in *runs*: the least words that codes fill without a rest. Codes come as quads, four bytes to a word. */
export interface Runs {
  /** Words of one run. */
  readonly words: number;
  /**
   * Packs `count` words, whole runs, from the quads that begin at `from`. Returns the OR of all quads, by which it is seen whether all codes fit: what
   * does not has corrupted its neighbours.
   */
  pack(quads: Uint32Array, from: number, out: Uint32Array, at: number, count: number): number;
  /**
   * Packs `count` words of each of two lines, whose quads lie `quadsApart`, and whose words are neighbours: those of a line lie `wordsApart`. Absent where it
   * would be slower than packing into other memory and transposing that.
   */
  packPair?(quads: Uint32Array, from: number, quadsApart: number, out: Uint32Array, at: number, wordsApart: number, count: number): number;
}

// One plain loop each: with the bits as numbers instead of constants they are three times as slow.
export const RUNS: Readonly<Record<Bits, Runs>> = {
  2: {
    words: 1,
    pack(quads, from, out, at, count) {
      let seen = 0;
      for (let i = at, j = from; i < at + count; i++, j += 4) seen |= word2(quads, j, out, i);
      return seen;
    },
    packPair(quads, from, quadsApart, out, at, wordsApart, count) {
      let seen = 0;
      const end = from + 4 * count;
      for (let i = at, j = from; j < end; i += wordsApart, j += 4) seen |= word2(quads, j, out, i) | word2(quads, j + quadsApart, out, i + 1);
      return seen;
    },
  },
  3: {
    words: 3,
    pack(quads, from, out, at, count) {
      let seen = 0;
      for (let i = at, j = from; i < at + count; i += 3, j += 8) {
        const a = quads[j];
        const b = quads[j + 1];
        const c = quads[j + 2];
        const d = quads[j + 3];
        const e = quads[j + 4];
        const f = quads[j + 5];
        const g = quads[j + 6];
        const h = quads[j + 7];
        seen |= a | b | c | d | e | f | g | h;
        const third = squeeze3(c);
        const sixth = squeeze3(f);
        out[i] = squeeze3(a) | (squeeze3(b) << 12) | (third << 24);
        out[i + 1] = (third >>> 8) | (squeeze3(d) << 4) | (squeeze3(e) << 16) | (sixth << 28);
        out[i + 2] = (sixth >>> 4) | (squeeze3(g) << 8) | (squeeze3(h) << 20);
      }
      return seen;
    },
  },
  4: {
    words: 1,
    pack(quads, from, out, at, count) {
      let seen = 0;
      for (let i = at, j = from; i < at + count; i++, j += 2) seen |= word4(quads, j, out, i);
      return seen;
    },
    packPair(quads, from, quadsApart, out, at, wordsApart, count) {
      let seen = 0;
      const end = from + 2 * count;
      for (let i = at, j = from; j < end; i += wordsApart, j += 2) seen |= word4(quads, j, out, i) | word4(quads, j + quadsApart, out, i + 1);
      return seen;
    },
  },
  6: {
    words: 3,
    pack(quads, from, out, at, count) {
      let seen = 0;
      for (let i = at, j = from; i < at + count; i += 3, j += 4) {
        const a = quads[j];
        const b = quads[j + 1];
        const c = quads[j + 2];
        const d = quads[j + 3];
        seen |= a | b | c | d;
        const second = squeeze6(b);
        const third = squeeze6(c);
        out[i] = squeeze6(a) | (second << 24);
        out[i + 1] = (second >>> 8) | (third << 16);
        out[i + 2] = (third >>> 16) | (squeeze6(d) << 8);
      }
      return seen;
    },
  },
  8: {
    words: 1,
    pack(quads, from, out, at, count) {
      out.set(quads.subarray(from, from + count), at);
      return 0;
    },
  },
};

// Constants, not function declarations: those could be assigned to, and V8 looks at each call whether they were.

/** Packs a word of codes of 2; returns the OR of its quads. */
const word2 = (quads: Uint32Array, j: number, out: Uint32Array, i: number): number => {
  const a = quads[j];
  const b = quads[j + 1];
  const c = quads[j + 2];
  const d = quads[j + 3];
  out[i] = (gather2(a) >>> 24) | ((gather2(b) >>> 16) & 0xff00) | ((gather2(c) >>> 8) & 0xff0000) | (gather2(d) & 0xff000000);
  return a | b | c | d;
};

/** The same of codes of 4. */
const word4 = (quads: Uint32Array, j: number, out: Uint32Array, i: number): number => {
  const a = quads[j];
  const b = quads[j + 1];
  out[i] = (gather4(a) >>> 16) | (gather4(b) & 0xffff0000);
  return a | b;
};

/** The highest 8 bits are four codes of 2; below them lie parts of sums that do not reach so far. */
const gather2 = (quad: number): number => Math.imul(quad, (1 << 24) | (1 << 18) | (1 << 12) | (1 << 6));

/** The highest 16 bits are four codes of 4. */
const gather4 = (quad: number): number => Math.imul((quad | (quad >>> 4)) & 0xff00ff, (1 << 16) | (1 << 8));

/** Four codes of 3 as 12 bits. */
const squeeze3 = (quad: number): number => {
  const pairs = (quad | (quad >>> 5)) & 0x3f003f;
  return (pairs | (pairs >>> 10)) & 0xfff;
};

/** Four codes of 6 as 24 bits: too wide for their shifted ones not to meet the others. */
const squeeze6 = (quad: number): number => {
  const pairs = (quad & 0x3f003f) | ((quad >>> 2) & 0xfc00fc0);
  return (pairs & 0xfff) | ((pairs >>> 4) & 0xfff000);
};
