import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import { floatsAt, halvesOfBlocks } from "./halves.js";
import { BLOCK_WEIGHTS, checkNibbles, CODE_WORDS, packNibbles, unpackNibbles } from "./nibbles.js";
import { codeWords, halvesIn } from "./words.js";

const HALVES = 9;
const ZERO = 8;

/** Q4_0 blocks [out, in / 32, 18] of a symmetric linear of 4 bits: f16 d, 32 nibbles; w = d · (q − 8). */
export function packQ4_0(name: string, linear: QuantizedLinear): Uint8Array<ArrayBuffer> {
  const codes = codeWords(linear.codes);
  const scales = halvesOfBlocks(linear.scales, linear, `the scales of ${name}`);
  const out = new Uint16Array(scales.length * HALVES);
  let seen = 0;
  for (let block = 0; block < scales.length; block++) {
    out[block * HALVES] = scales[block];
    seen |= packNibbles(codes, block * CODE_WORDS, out, block * HALVES + 1);
  }
  checkNibbles(seen);
  return new Uint8Array(out.buffer);
}

/** The inverse, in groups of 32. Throws `InputError` where a scale is not finite. */
export function unpackQ4_0(name: string, bytes: Uint8Array<ArrayBuffer>, outFeatures: number, inFeatures: number): QuantizedLinear {
  const packed = halvesIn(bytes);
  const scales = floatsAt(packed, 0, HALVES, `the scales of ${name}`);
  const codes = new Uint32Array(scales.length * CODE_WORDS);
  for (let block = 0; block < scales.length; block++) unpackNibbles(packed, block * HALVES + 1, codes, block * CODE_WORDS);
  return {
    outFeatures, inFeatures,
    scheme: { bits: 4, groupSize: BLOCK_WEIGHTS, symmetric: true, scaleDtype: "F16" },
    codes: new Uint8Array(codes.buffer), scales, zeros: new Uint8Array(scales.length).fill(ZERO),
  };
}
