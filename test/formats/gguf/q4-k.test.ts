import { describe, expect, it } from "vitest";
import { packQ4_K, unpackQ4_K } from "#src/formats/gguf/q4-k.js";
import { dequantize } from "#src/quantize/dequantize.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { roundToNearest } from "#src/quantize/rtn.js";
import { gaussians, generator } from "../../quantize/random.js";

const rows = 5;
const n = 768;
const scheme = { bits: 4, groupSize: 32, symmetric: false, scaleDtype: "F16", offsets: "super-block" } as const;
// The first super-block has nothing below zero, the second nothing at all.
const weight = gaussians(rows * n, generator(21), 0.05).map((w, i) => (i < 256 ? Math.abs(w) : i < 512 ? 0 : w));
const { dequantized, ...coded } = roundToNearest(weight, rows, n, scheme, true);
const linear: QuantizedLinear = { outFeatures: rows, inFeatures: n, scheme, ...coded };

describe("Q4_K", () => {
  it("holds what the methods make of a linear, to the last bit", () => {
    const bytes = packQ4_K("l", linear);
    expect(bytes).toHaveLength((rows * n * 144) / 256);
    const read = unpackQ4_K("l", bytes, rows, n);
    expect(read).toEqual(linear);
    expect(dequantize(read).data).toEqual(dequantized);
  });

  it("is read where its bytes are not aligned", () => {
    const bytes = packQ4_K("l", linear);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    expect(unpackQ4_K("l", shifted.subarray(1), rows, n)).toEqual(linear);
  });

  it("takes no scale or offset beside the steps, and no code of more bits", () => {
    const changed = (part: "scales" | "offsets" | "codes", value: number): QuantizedLinear => ({ ...linear, [part]: linear[part]!.with(3, value) });
    const [step] = linear.steps!;
    expect(() => packQ4_K("l", changed("scales", 1.5 * step))).toThrow(`l: ${String(1.5 * step)} is no whole number of steps of ${String(step)}, 0 … 63`);
    expect(() => packQ4_K("l", changed("scales", 64 * step))).toThrow("is no whole number of steps");
    expect(() => packQ4_K("l", changed("offsets", linear.steps![1]))).toThrow("is no whole number of steps");
    expect(() => packQ4_K("l", changed("codes", 16))).toThrow("A code does not fit 4 bits");
    expect(() => packQ4_K("l", { ...linear, steps: linear.steps!.with(2, 1e-20) })).toThrow("the steps of l: 9.999999682655225e-21 at 2 does not fit F16");
  });

  it("is refused by name where a step is no number", () => {
    const bytes = packQ4_K("l", linear);
    bytes.set([0, 0x7c], 2 * 144 + 2);
    expect(() => unpackQ4_K("l", bytes, rows, n)).toThrow("the steps of the minimums of l: block 2 holds Infinity");
  });
});
