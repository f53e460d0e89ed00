import { describe, expect, it } from "vitest";
import { packQ6_K, unpackQ6_K } from "#src/formats/gguf/q6-k.js";
import { dequantize } from "#src/quantize/dequantize.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { roundToNearest } from "#src/quantize/rtn.js";
import { roundToDtype } from "#src/safetensors/floats.js";
import { gaussians, generator } from "../../quantize/random.js";

const rows = 5;
const n = 768;
const scheme = { bits: 6, groupSize: 16, symmetric: true, scaleDtype: "F16", scales: "super-block" } as const;
// The first super-block has nothing below zero, the second nothing at all.
const weight = gaussians(rows * n, generator(21), 0.05).map((w, i) => (i < 256 ? Math.abs(w) : i < 512 ? 0 : w));
const { dequantized, ...coded } = roundToNearest(weight, rows, n, scheme, true);
const linear: QuantizedLinear = { outFeatures: rows, inFeatures: n, scheme, ...coded };

/** Code i of a super-block, bit by bit as ggml's `block_q6_K` has it. */
function codeAt(block: Uint8Array, i: number): number {
  const [chunk, run, j] = [i >> 7, (i >> 5) & 3, i & 31];
  const lower = (block[64 * chunk + 32 * (run & 1) + j] >> (4 * (run >> 1))) & 15;
  return lower | (((block[128 + 32 * chunk + j] >> (2 * run)) & 3) << 4);
}

/** Σ (w − ŵ)² where each group has the scale of the largest weight, or that which fits its codes best by least squares, in steps of the largest scale / 127. */
function plainError(values: Float32Array): number {
  let error = 0;
  for (let at = 0; at < values.length; at += 256) {
    const fits = Array.from({ length: 16 }, (_, k) => {
      const group = [...values.subarray(at + 16 * k, at + 16 * k + 16)];
      const largest = group.reduce((most, w) => (Math.abs(w) > Math.abs(most) ? w : most), 0);
      if (largest === 0) return 0;
      const codes = group.map((w) => Math.max(-32, Math.min(31, Math.round((w * -32) / largest))));
      const fitted = group.reduce((sum, w, i) => sum + w * codes[i], 0) / codes.reduce((sum, q) => sum + q * q, 0);
      return fitted;
    });
    const step = roundToDtype(Math.max(...fits.map(Math.abs)) / 127, "F16");
    fits.forEach((fit, k) => {
      const scale = step === 0 ? 0 : step * Math.round(fit / step);
      for (const w of values.subarray(at + 16 * k, at + 16 * k + 16)) {
        const q = scale === 0 ? 0 : Math.max(-32, Math.min(31, Math.round(w / scale)));
        error += (w - scale * q) ** 2;
      }
    });
  }
  return error;
}

describe("Q6_K", () => {
  it("holds what the methods make of a linear, to the last bit", () => {
    const bytes = packQ6_K("l", linear);
    expect(bytes).toHaveLength((rows * n * 210) / 256);
    const read = unpackQ6_K("l", bytes, rows, n);
    expect(read).toEqual(linear);
    expect(dequantize(read).data).toEqual(dequantized);
  });

  it("has every code where llama.cpp looks for it", () => {
    const bytes = packQ6_K("l", linear);
    const found = linear.codes.map((_, i) => codeAt(bytes.subarray((i >> 8) * 210), i & 255));
    expect(Buffer.compare(found, linear.codes)).toBe(0);
  });

  it("leaves less error than scales fitted by least squares and rounded to steps", () => {
    const error = weight.reduce((sum, w, i) => sum + (w - dequantized[i]) ** 2, 0);
    expect(error).toBeLessThan(plainError(weight));
  });

  it("is read where its bytes are not aligned", () => {
    const bytes = packQ6_K("l", linear);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    expect(unpackQ6_K("l", shifted.subarray(1), rows, n)).toEqual(linear);
  });

  it("takes no scale beside the steps, and no code of more bits", () => {
    const [step] = linear.steps!;
    const withScale = (value: number): QuantizedLinear => ({ ...linear, scales: linear.scales.with(3, value) });
    expect(() => packQ6_K("l", withScale(1.5 * step))).toThrow(`l: ${String(1.5 * step)} is no whole number of steps of ${String(step)}, −128 … 127`);
    expect(() => packQ6_K("l", withScale(128 * step))).toThrow("is no whole number of steps");
    expect(() => packQ6_K("l", { ...linear, codes: linear.codes.with(3, 64) })).toThrow("A code does not fit 6 bits");
    expect(() => packQ6_K("l", { ...linear, steps: linear.steps!.with(2, 1e-20) })).toThrow("the steps of l: 9.999999682655225e-21 at 2 does not fit F16");
  });

  it("is refused by name where a step is no number", () => {
    const bytes = packQ6_K("l", linear);
    bytes.set([0, 0x7c], 2 * 210 + 208);
    expect(() => unpackQ6_K("l", bytes, rows, n)).toThrow("the steps of l: block 2 holds Infinity");
  });
});
