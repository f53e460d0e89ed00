import type { Bits } from "../quantize/scheme.js";
import { RUNS } from "./runs.js";

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

/** Lines that are packed together where words lie side by side across lines: the fewer, the more often each page of the words is written to. */
const TILE = 128;

/** Words of each line that are packed for all lines before the next where pairs of lines are packed in place: as many lie apart as a cache keeps. */
const ACROSS = 96;

/** Words after each line of the scratch: were lines powers of two apart, a cache would keep only some of them. */
const APART = 16;

/**
 * Packs codes into little-endian words, low bits first, without gaps; codes of 3 and 6 bits straddle words. Bits past the end of
 * a line are zero. Assumes a little-endian machine, as safetensors does of its bytes and ONNX Runtime of its host.
 *
 * Throws `Error` where a code does not fit its bits: it would corrupt its neighbours.
 */
export function packBits(codes: Uint8Array<ArrayBuffer>, layout: PackedLayout): Uint32Array<ArrayBuffer> {
  const { bits, lines, length, lineStride, codeStride, wordLineStride, wordStride } = layout;
  const words = wordsFor(length, bits);
  const runs = RUNS[bits];
  const padded = Math.ceil(words / runs.words) * runs.words;
  // Lines of whole runs are packed from where they lie, others from a copy with zeros after them.
  const whole = codeStride === 1 && length * bits === padded * 32 && codes.byteOffset % 4 === 0;
  const line = new Uint8Array(whole ? 0 : (padded * 32) / bits);
  const quads = whole ? new Uint32Array(codes.buffer, codes.byteOffset, codes.length >> 2) : new Uint32Array(line.buffer);
  const out = new Uint32Array(lines * words);
  let seen = 0;
  if (whole && wordStride === 1) seen = runs.pack(quads, 0, out, 0, out.length);
  else if (whole && wordLineStride === 1 && lines % 2 === 0 && runs.packPair !== undefined) {
    const perWord = 8 / bits;
    for (let w = 0; w < words; w += ACROSS) {
      const count = Math.min(ACROSS, words - w);
      for (let l = 0; l < lines; l += 2) seen |= runs.packPair(quads, (l * words + w) * perWord, words * perWord, out, w * wordStride + l, wordStride, count);
    }
  } else {
    const apart = padded + APART;
    const scratch = new Uint32Array(TILE * apart);
    for (let first = 0; first < lines; first += TILE) {
      const tile = Math.min(TILE, lines - first);
      for (let t = 0; t < tile; t++) {
        const start = (first + t) * lineStride;
        if (!whole) for (let i = 0; i < length; i++) line[i] = codes[start + i * codeStride]!;
        seen |= runs.pack(quads, whole ? start >> 2 : 0, scratch, t * apart, padded);
      }
      for (let w = 0; w < words; w++) {
        for (let t = 0, from = w, to = first * wordLineStride + w * wordStride; t < tile; t++, from += apart, to += wordLineStride) out[to] = scratch[from]!;
      }
    }
  }
  if (((seen | (seen >>> 16) | (seen >>> 8) | (seen >>> 24)) & 0xff) >>> bits !== 0) throw new Error(`A code does not fit ${bits} bits`);
  return out;
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
  const lowCodes = ((1 << bits) - 1) * 0x10001;
  const lowPairs = (1 << (2 * bits)) - 1;
  const quadMask = 2 ** (4 * bits) - 1;
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
    const pairs = (four & lowPairs) | ((four & ~lowPairs) << quadShift);
    quads[i] = (pairs & lowCodes) | ((pairs & ~lowCodes) << pairShift);
  }
}
