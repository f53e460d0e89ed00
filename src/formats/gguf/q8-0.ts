import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import { floatsAt, halvesOfBlocks } from "./halves.js";
import { BLOCK_WEIGHTS, CODE_WORDS } from "./nibbles.js";
import { codeWords, halvesIn } from "./words.js";

const HALVES = 17;

/** Turns codes 0 … 255 around a zero of 128 into signed bytes and back: their highest bit. */
const SIGNS = 0x8080;
const ZERO = 128;

/** Q8_0 blocks [out, in / 32, 34] of a symmetric linear of 8 bits: f16 d, 32 signed bytes; w = d · (q − 128). */
export function packQ8_0(name: string, linear: QuantizedLinear): Uint8Array<ArrayBuffer> {
  const codes = codeWords(linear.codes);
  const scales = halvesOfBlocks(linear.scales, linear, `the scales of ${name}`);
  const out = new Uint16Array(scales.length * HALVES);
  for (let block = 0; block < scales.length; block++) {
    const to = block * HALVES;
    out[to] = scales[block];
    for (let i = 0; i < CODE_WORDS; i++) {
      const word = codes[block * CODE_WORDS + i];
      out[to + 1 + 2 * i] = word ^ SIGNS;
      out[to + 2 + 2 * i] = (word >>> 16) ^ SIGNS;
    }
  }
  return new Uint8Array(out.buffer);
}

/** The inverse, in groups of 32. Throws `InputError` where a scale is not finite. */
export function unpackQ8_0(name: string, bytes: Uint8Array<ArrayBuffer>, outFeatures: number, inFeatures: number): QuantizedLinear {
  const packed = halvesIn(bytes);
  const scales = floatsAt(packed, 0, HALVES, `the scales of ${name}`);
  const codes = new Uint32Array(scales.length * CODE_WORDS);
  for (let block = 0; block < scales.length; block++) {
    const from = block * HALVES;
    for (let i = 0; i < CODE_WORDS; i++) {
      codes[block * CODE_WORDS + i] = (packed[from + 1 + 2 * i] ^ SIGNS) | ((packed[from + 2 + 2 * i] ^ SIGNS) << 16);
    }
  }
  return {
    outFeatures, inFeatures,
    scheme: { bits: 8, groupSize: BLOCK_WEIGHTS, symmetric: true, scaleDtype: "F16" },
    codes: new Uint8Array(codes.buffer), scales, zeros: new Uint8Array(scales.length).fill(ZERO),
  };
}
