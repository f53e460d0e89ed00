import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import { integerZeros } from "../integer-zeros.js";
import { floatsAt, halvesOfBlocks } from "./halves.js";
import { BLOCK_WEIGHTS, checkNibbles, CODE_WORDS, unpackNibbles } from "./nibbles.js";
import { codeWords, halvesIn } from "./words.js";

/** A block of this type is whole words. */
const WORDS = 5;
const HALVES = 2 * WORDS;

/**
 * Q4_1 blocks [out, in / 32, 20] of an asymmetric linear of 4 bits: f16 d, f16 m, 32 nibbles; w = d · q + m. Integer zero points are
 * held where float16 holds scale · zero: `InputError` where it does not.
 */
export function packQ4_1(name: string, linear: QuantizedLinear): Uint8Array<ArrayBuffer> {
  const codes = codeWords(linear.codes);
  const scales = halvesOfBlocks(linear.scales, linear, `the scales of ${name}`);
  const minimums = halvesOfBlocks(linear.offsets ?? offsetsOf(linear), linear, `the minimums of ${name}`);
  const out = new Uint32Array(scales.length * WORDS);
  let seen = 0;
  for (let block = 0, from = 0, to = 0; block < scales.length; block++, from += CODE_WORDS, to += WORDS) {
    out[to] = scales[block] | (minimums[block] << 16);
    seen |= packWord(codes, from, out, to + 1) | packWord(codes, from + 1, out, to + 2);
    seen |= packWord(codes, from + 2, out, to + 3) | packWord(codes, from + 3, out, to + 4);
  }
  checkNibbles(seen);
  return new Uint8Array(out.buffer);
}

/** Packs four codes with those half a block later above them; returns the OR of both. A constant, which V8 inlines unseen. */
const packWord = (codes: Uint32Array, from: number, out: Uint32Array, to: number): number => {
  const low = codes[from];
  const high = codes[from + CODE_WORDS / 2];
  out[to] = low | (high << 4);
  return low | high;
};

/** What zero points come to as offsets. */
function offsetsOf({ scales, zeros }: QuantizedLinear): Float32Array {
  const offsets = new Float32Array(scales.length);
  for (let i = 0; i < scales.length; i++) offsets[i] = 0 - scales[i] * zeros[i];
  return offsets;
}

/**
 * The inverse, in groups of 32, with integer zero points where the minimums are multiples of the scales. Throws `InputError` where a
 * scale or a minimum is not finite.
 */
export function unpackQ4_1(name: string, bytes: Uint8Array<ArrayBuffer>, outFeatures: number, inFeatures: number): QuantizedLinear {
  const packed = halvesIn(bytes);
  const scales = floatsAt(packed, 0, HALVES, `the scales of ${name}`);
  const offsets = floatsAt(packed, 1, HALVES, `the minimums of ${name}`);
  const codes = new Uint32Array(scales.length * CODE_WORDS);
  for (let block = 0; block < scales.length; block++) unpackNibbles(packed, block * HALVES + 2, codes, block * CODE_WORDS);
  const scheme = { bits: 4, groupSize: BLOCK_WEIGHTS, symmetric: false, scaleDtype: "F16" } as const;
  const zeros = integerZeros(scales, offsets, scheme.bits);
  const common = { outFeatures, inFeatures, codes: new Uint8Array(codes.buffer), scales };
  return zeros === undefined
    ? { ...common, scheme: { ...scheme, offsets: "float" }, zeros: new Uint8Array(scales.length), offsets }
    : { ...common, scheme, zeros };
}
