import { describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { prepareScaled } from "#src/quantize/awq.js";
import { dequantize } from "#src/quantize/dequantize.js";
import type { PreparedHessian } from "#src/quantize/hessian.js";
import { dividedRows, prepareHessianIn, quantizeLinear, splitRows } from "#src/quantize/linear.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { ORDERS, type Order, type QuantScheme } from "#src/quantize/scheme.js";
import { crossCorrelation, retargeted } from "#src/quantize/retarget.js";
import type { Recipe } from "#src/quantize/slab.js";
import { roundAllToDtype } from "#src/safetensors/floats.js";
import { plainLinearAlgebra } from "../engine/plain-linear-algebra.js";
import { asChannelsLie } from "./case.js";
import { activations, gaussians, generator, gram } from "./random.js";
import { traceOf } from "./reference.js";
import { threads } from "./threads.js";

const n = 64;
const rows = 200;
const tokens = 150;
const random = generator(5);
const sum = gram(activations(tokens, n, random, [9]), tokens, n);
const weight = { rows, cols: n, data: gaussians(rows * n, random, 0.05) };
const scheme: QuantScheme = { bits: 4, groupSize: 16, symmetric: true, scaleDtype: "F16" };
const recipe: Recipe = { search: true, refine: 3 };

async function hessianOf(order: Order): Promise<PreparedHessian> {
  const h = await prepareHessianIn(threads(1), sum.slice(), tokens, { order, groupSize: 16, damp: 0.01 });
  if ("problem" in h) throw new Error(h.detail);
  return h;
}

const nested = (values: Float32Array) => Array.from({ length: rows }, (_, r) => [...values.subarray(r * n, (r + 1) * n)]);

describe("quantizeLinear", () => {
  it("gives the same however many threads there are", async () => {
    const hessian = await hessianOf("group-aware");
    const results = await Promise.all([1, 3, 100].map((count) => quantizeLinear(threads(count), weight, { name: "q", scheme, method: "gptq", recipe, hessian })));
    for (const { linear, dequantized, stats } of results) {
      expect(linear).toEqual(results[0].linear);
      expect(dequantized).toEqual(results[0].dequantized);
      expect(stats.relativeError).toBeCloseTo(results[0].stats.relativeError, 12);
      expect(stats.scales).toEqual(results[0].stats.scales);
    }
  });

  for (const order of ORDERS) {
    it(`hands back a linear that reads as it says, in ${order} order`, async () => {
      const { linear, dequantized } = await quantizeLinear(threads(2), weight, { name: "q", scheme, method: "gptq", recipe, hessian: await hessianOf(order) });
      expect(dequantize(linear)).toEqual(dequantized);
      expect(linear.groupOf === undefined).toBe(order !== "act");
    });
  }

  it("measures the share of the output that is error", async () => {
    const hessian = await hessianOf("act");
    const h = Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => sum[i * n + j] / tokens));
    for (const method of ["rtn", "gptq"] as const) {
      const { dequantized, linear, stats } = await quantizeLinear(threads(2), weight, { name: "q", scheme, method, recipe, hessian });
      const error = traceOf(nested(weight.data.map((w, i) => w - dequantized.data[i])), h);
      expect(stats.error / error).toBeCloseTo(1, 4);
      expect(stats.relativeError / (error / traceOf(nested(weight.data), h))).toBeCloseTo(1, 4);
      const sorted = linear.scales.map(Math.abs).toSorted();
      expect(stats.scales).toEqual({ min: sorted[0], median: sorted[sorted.length / 2], max: sorted[sorted.length - 1] });
      expect(stats.clippedScales).toBe(0);
    }
  });

  it("measures weights where there is no Hessian", async () => {
    const { dequantized, stats } = await quantizeLinear(threads(2), weight, { name: "q", scheme, method: "rtn", recipe });
    const square = (values: Float32Array) => values.reduce((total, x) => total + x * x, 0);
    expect(stats.relativeError).toBeCloseTo(square(weight.data.map((w, i) => w - dequantized.data[i])) / square(weight.data), 10);
  });

  it("searches where the recipe says so", async () => {
    const error = async (search: boolean) =>
      (await quantizeLinear(threads(1), weight, { name: "q", scheme, method: "rtn", recipe: { search, refine: 0 } })).stats.error;
    expect(await error(true)).toBeLessThan(await error(false));
  });

  it("counts the groups that are clipped because their scale does not fit its dtype", async () => {
    const large = { rows: 2, cols: 32, data: new Float32Array(64).fill(1, 0, 16).fill(1e7, 16) };
    expect((await quantizeLinear(threads(1), large, { name: "q", scheme, method: "rtn", recipe })).stats.clippedScales).toBe(3);
  });

  it("takes weights of zero", async () => {
    const zero = { rows: 3, cols: 32, data: new Float32Array(96) };
    const { dequantized, stats } = await quantizeLinear(threads(2), zero, { name: "q", scheme, method: "rtn", recipe });
    expect(dequantized.data).toEqual(zero.data);
    expect(stats).toMatchObject({ relativeError: 0, error: 0, scales: { min: 1, median: 1, max: 1 } });
  });

  it.each([[NaN, "NaN"], [-Infinity, "-Infinity"]])("refuses a weight of %d by name and place", async (value, text) => {
    const broken = { ...weight, data: weight.data.slice() };
    broken.data[3 * n + 5] = value;
    await expect(quantizeLinear(threads(1), broken, { name: "layers.0.q_proj", scheme, method: "rtn", recipe })).rejects.toThrow(
      new InputError(`layers.0.q_proj: the weight at row 3, column 5 is ${text}`),
    );
  });

  it("refuses to write what overflowed", async () => {
    const huge = { rows: 1, cols: 16, data: new Float32Array(16).fill(3e38) };
    const ones = Float32Array.from({ length: 256 }, (_, i) => (i % 17 === 0 ? 3e38 : 2.9e38));
    const hessian = await prepareHessianIn(threads(1), ones, 1, { order: "natural", groupSize: 16, damp: 0.01 });
    if ("problem" in hessian) throw new Error(hessian.detail);
    await expect(quantizeLinear(threads(1), huge, { name: "q", scheme, method: "gptq", recipe, hessian })).rejects.toThrow(InputError);
  });
});

describe("with input scales", () => {
  // Loud channels, so that there are some.
  const louder = gram(activations(tokens, n, random).map((x, i) => (i % n === 7 || i % n === 40 ? 40 * x : x)), tokens, n);
  const scaledHessian = async (order: Order) => {
    const given = louder.slice();
    const { prepared, scales, unscaled } = await prepareScaled(threads(1), given, tokens, { order, groupSize: 16, damp: 0.01 }, [weight.data], scheme, {});
    expect(given).toHaveLength(0);
    if ("problem" in prepared) throw new Error(prepared.detail);
    return { hessian: prepared, inputScales: scales!, unscaled: unscaled! };
  };

  it.each(ORDERS)("hands back what a reader makes of inputs over s, in %s order", async (order) => {
    const scaled = await scaledHessian(order);
    const before = weight.data.slice();
    const { linear, dequantized } = await quantizeLinear(threads(3), weight, { name: "q", scheme, method: "gptq", recipe, ...scaled });
    const x = gaussians(n, random);
    const read = dequantize(linear).data;
    for (let r = 0; r < rows; r++) {
      const dot = (w: Float32Array, input: (j: number) => number) => Array.from({ length: n }, (_, j) => w[r * n + j] * input(j)).reduce((a, b) => a + b, 0);
      expect(dot(dequantized.data, (j) => x[j])).toBeCloseTo(dot(read, (j) => x[j] / scaled.inputScales[j]), 6);
    }
    expect(weight.data).toEqual(before);
  });

  it("measures the error of the linear's own output, and less of it than without", async () => {
    const h = Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_v, j) => louder[i * n + j] / tokens));
    const scaled = await scaledHessian("group-aware");
    const plain = await prepareHessianIn(threads(1), louder.slice(), tokens, { order: "group-aware", groupSize: 16, damp: 0.01 });
    if ("problem" in plain) throw new Error(plain.detail);
    const { dequantized, stats } = await quantizeLinear(threads(2), weight, { name: "q", scheme, method: "gptq", recipe, ...scaled });
    expect(stats.error / traceOf(nested(weight.data.map((w, i) => w - dequantized.data[i])), h)).toBeCloseTo(1, 3);
    expect(stats.energy / traceOf(nested(weight.data), h)).toBeCloseTo(1, 3);
    const { stats: without } = await quantizeLinear(threads(2), weight, { name: "q", scheme, method: "gptq", recipe, hessian: plain });
    expect(stats.error).toBeLessThan(0.8 * without.error);
  });

  it("retargets what is then scaled, by inputs as they are", async () => {
    const { unscaled, ...scaled } = await scaledHessian("group-aware");
    expect(asChannelsLie(unscaled)).toEqual(louder.map((sum) => sum / tokens));
    const cross = crossCorrelation(louder.map((sum, i) => (0.1 + (i % 3) / 10) * sum), tokens);
    if ("problem" in cross) throw new Error(cross.detail);
    const retarget = { cross, hessian: unscaled };
    const aimed = { ...weight, data: await retargeted(plainLinearAlgebra, weight.data, rows, retarget) };
    expect(aimed.data.some((w, i) => Math.abs(w - weight.data[i]) > 0.01)).toBe(true);
    const { linear, dequantized } = await quantizeLinear(threads(1), weight, { name: "q", scheme, method: "gptq", recipe, ...scaled, retarget });
    const directly = await quantizeLinear(threads(1), aimed, { name: "q", scheme, method: "gptq", recipe, ...scaled });
    expect(linear).toEqual(directly.linear);
    expect(dequantized).toEqual(directly.dequantized);
  });
});

it("splits rows evenly over threads, never into few rows, and not into more weights than a thread can hold", () => {
  expect(splitRows(100, 576, 2)).toEqual([[0, 100]]);
  expect(splitRows(192, 576, 2)).toEqual([[0, 96], [96, 192]]);
  const parts = splitRows(28672, 8192, 8);
  expect(parts).toHaveLength(16);
  expect(parts.every(([from, to], i) => (to - from) * 8192 < 2 ** 24 && from === (parts[i - 1]?.[1] ?? 0))).toBe(true);
});

describe("dividedRows", () => {
  // A negative scale, and groups that follow an order.
  const linear = async (): Promise<QuantizedLinear> => (await quantizeLinear(threads(1), weight, { name: "v", scheme: { ...scheme, bits: 3 }, method: "gptq", recipe, hessian: await hessianOf("act") })).linear;

  it("divides each row by its own s, to the last bit where s is a power of two", async () => {
    const whole = await linear();
    const s = Float64Array.from({ length: rows }, (_, r) => 2 ** ((r % 5) - 2));
    expect(whole.scales.some((scale) => scale < 0)).toBe(true);
    const divided = dividedRows(whole, s);
    expect(dequantize(divided).data).toEqual(dequantize(whole).data.map((w, i) => w / s[Math.floor(i / n)]));
    expect({ ...divided, scales: whole.scales }).toEqual(whole);
  });

  it.each(["float", "super-block"] as const)("divides offsets as well: %s", async (offsets) => {
    const whole = (await quantizeLinear(threads(3), weight, { name: "v", scheme: { bits: 4, groupSize: 4, symmetric: false, scaleDtype: "F16", offsets }, method: "rtn", recipe })).linear;
    const halves = dividedRows(whole, new Float64Array(rows).fill(2));
    expect(dequantize(halves).data).toEqual(dequantize(whole).data.map((w) => w / 2));
    const s = Float64Array.from({ length: rows }, () => 0.2 + 3 * random());
    const divided = dividedRows(whole, s);
    expect(divided.steps ?? divided.offsets).toEqual(roundAllToDtype((divided.steps ?? divided.offsets)!, "F16"));
    divided.steps?.forEach((step, i) => {
      // As many steps as before.
      const blocks = n / 32;
      for (let k = 0; k < 8; k++) {
        const group = Math.floor(i / 2) * 8 + k;
        const part = i % 2 === 0 ? "scales" : "offsets";
        expect(divided[part]![group] / step).toBe(whole[part]![group] / whole.steps![i]);
      }
      expect(Math.abs(step / (whole.steps![i] / s[Math.floor(i / 2 / blocks)]) - 1)).toBeLessThan(2 ** -10);
    });
    const before = dequantize(whole).data;
    dequantize(divided).data.forEach((w, i) => { expect(Math.abs(w - before[i] / s[Math.floor(i / n)])).toBeLessThanOrEqual(2 ** -9 * 0.3 / s[Math.floor(i / n)]); });
  });

  it("rounds scales to what is stored, and no further", async () => {
    const whole = await linear();
    const s = Float64Array.from({ length: rows }, () => 0.2 + 3 * random());
    const divided = dividedRows(whole, s);
    expect(divided.scales).toEqual(roundAllToDtype(divided.scales, "F16"));
    const before = dequantize(whole).data;
    dequantize(divided).data.forEach((w, i) => { expect(Math.abs(w - before[i] / s[Math.floor(i / n)])).toBeLessThanOrEqual(Math.abs(w) * 2 ** -10); });
  });

  it("never makes a scale 0 or infinite", () => {
    const edge: QuantizedLinear = { outFeatures: 2, inFeatures: 1, scheme: { ...scheme, groupSize: 1 }, codes: Uint8Array.of(9, 9), scales: Float32Array.of(2 ** -24, -60_000), zeros: Uint8Array.of(8, 8) };
    expect(dividedRows(edge, Float64Array.of(100, 0.01)).scales).toEqual(Float32Array.of(2 ** -24, -65504));
  });
});
