import { describe, expect, it } from "vitest";
import { outlierChannels, rowKurtosis } from "#src/quantize/outliers.js";
import { inputHessian, roundSlab } from "#src/quantize/rounding-errors.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import { plainLinearAlgebra } from "../engine/plain-linear-algebra.js";

let seed = 7;
const uniform = (): number => (seed = (seed * 48271) % 2147483647) / 2147483647;
const normal = (): number => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());

describe("outlier channels", () => {
  it("are those far above the median, the loudest first", () => {
    const rms = [1, 2, 1, 13, 0.5, 7, 1, 0, 1];
    expect(outlierChannels(rms.map((x) => x * x), 6)).toEqual([{ channel: 3, factor: 13 }, { channel: 5, factor: 7 }]);
    expect(outlierChannels(rms.map((x) => x * x), 13)).toEqual([]);
  });
  it("are none where most are silent", () => { expect(outlierChannels([0, 0, 0, 5], 6)).toEqual([]); });
});

describe("kurtosis", () => {
  it("is 1 for two values, 1.8 for an even distribution, 3 for a normal one, and high with an outlier", () => {
    const n = 20000;
    const rows = [(i: number) => (i % 2) * 4, () => uniform(), () => 5 + normal(), (i: number) => (i === 9 ? 100 : normal()), () => 2];
    const kurtosis = rowKurtosis(Float32Array.from(rows.flatMap((value) => Array.from({ length: n }, (_, i) => value(i)))), rows.length, n);
    expect(kurtosis[0]).toBeCloseTo(1, 6);
    expect(kurtosis[1]).toBeCloseTo(1.8, 1);
    expect(Math.abs(kurtosis[2] - 3)).toBeLessThan(0.15);
    expect(kurtosis[3]).toBeGreaterThan(500);
    expect(kurtosis[4]).toBe(0);
  });
});

describe("rounding errors", () => {
  it("are those of the outputs, in the metric of the inputs", async () => {
    const [rows, cols, tokens] = [6, 16, 40];
    const x = Float32Array.from({ length: tokens * cols }, (_, i) => normal() * (i % cols === 3 ? 20 : 1));
    const weight = Float32Array.from({ length: rows * cols }, normal);
    const gram = new Float32Array(cols * cols);
    for (let t = 0; t < tokens; t++) for (let i = 0; i < cols; i++) for (let j = 0; j < cols; j++) gram[i * cols + j] += x[t * cols + i] * x[t * cols + j];
    const schemes = ([2, 3, 4, 8] as const).map((bits): QuantScheme => ({ bits, groupSize: 8, symmetric: true, scaleDtype: "F16" }));
    const { result: { errors, energy, rounded } } = await roundSlab(plainLinearAlgebra, { rows, cols, data: weight.slice() }, schemes, inputHessian(gram, tokens), 1);
    const outputs = (w: ArrayLike<number>): number => {
      let sum = 0;
      for (let t = 0; t < tokens; t++) for (let r = 0; r < rows; r++) {
        let y = 0;
        for (let i = 0; i < cols; i++) y += w[r * cols + i] * x[t * cols + i];
        sum += (y * y) / tokens;
      }
      return sum;
    };
    expect(energy).toBeCloseTo(outputs(weight), 1);
    expect(errors[1] / outputs(weight.map((w, i) => w - rounded[i]))).toBeCloseTo(1, 3);
    expect([...errors].sort((a, b) => b - a)).toEqual([...errors]);
    expect(errors[3]).toBeLessThan(errors[0] / 500);
  });
});
