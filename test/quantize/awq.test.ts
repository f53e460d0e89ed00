import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { foldedNorm, lossOfScaled, prepareScaled, roundingError, sampleRows, scaledColumns, type Producer } from "#src/quantize/awq.js";
import { gptq } from "#src/quantize/gptq.js";
import { prepareHessian, type PreparedHessian } from "#src/quantize/hessian.js";
import { roundToNearest } from "#src/quantize/rtn.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import { roundAllToDtype, roundToDtype, type FloatDtype } from "#src/safetensors/floats.js";
import { plainLinearAlgebra as la } from "../engine/plain-linear-algebra.js";
import { asChannelsLie } from "./case.js";
import { activations, gaussians, generator, gram } from "./random.js";
import { traceOf } from "./reference.js";
import { threads } from "./threads.js";

const n = 64;
const rows = 40;
const tokens = 160;
const scheme: QuantScheme = { bits: 4, groupSize: 16, symmetric: true, scaleDtype: "F16" };
const options = { order: "group-aware", groupSize: 16, damp: 0.01 } as const;
const LOUD = [3, 20, 41];

/** Inputs of which some channels are much larger than the rest. */
function loud(seed: number, channels = LOUD, by = 30): { sum: Float32Array<ArrayBuffer>; weight: Float32Array<ArrayBuffer> } {
  const random = generator(seed);
  const x = activations(tokens, n, random).map((value, i) => (channels.includes(i % n) ? value * by : value));
  return { sum: gram(x, tokens, n), weight: gaussians(rows * n, random, 0.05) };
}

const prepared = (hessian: Awaited<ReturnType<typeof prepareHessian>>): PreparedHessian => {
  if ("problem" in hessian) throw new Error(hessian.detail);
  return hessian;
};

const nested = (values: ArrayLike<number>, count: number): number[][] => Array.from({ length: count }, (_, r) => Array.from({ length: n }, (_v, j) => values[r * n + j]));

/** What GPTQ leaves of a token's output, in the metric of the inputs as they are and of λ, in doubles. */
async function leftBy(sum: Float32Array, weight: Float32Array, hessian: PreparedHessian, s: ArrayLike<number> = new Float64Array(n).fill(1), own = scheme): Promise<number> {
  const { dequantized } = await gptq(la, weight.map((w, i) => w * s[i % n]), rows, own, true, hessian);
  const difference = nested(weight.map((w, i) => w - dequantized[i] / s[i % n]), rows);
  return traceOf(difference, nested(sum.map((h, i) => h / tokens + (i % (n + 1) === 0 ? hessian.lambda : 0)), n));
}

const without = async (sum: Float32Array): Promise<PreparedHessian> => prepared(await prepareHessian(la, sum.slice(), tokens, options));

async function found(sum: Float32Array, weight: Float32Array, producer: Producer = {}, own = scheme) {
  const { prepared: hessian, ...scaled } = await prepareScaled(threads(1), sum.slice(), tokens, options, [weight], own, producer);
  return { hessian: prepared(hessian), ...scaled };
}

/** The norm of a model: weights about 1 as Llama has them, or about 0 with a 1 to be added, as Gemma does. */
const normOf = (dtype: FloatDtype, plus: number, seed = 8) => ({ weight: roundAllToDtype(gaussians(n, generator(seed), 0.3).map((w) => w + 1 - plus), dtype), plus, dtype });

describe("prepareScaled", () => {
  it("prepares the Hessian of inputs over s", async () => {
    const { sum, weight } = loud(1);
    const { hessian, scales, unscaled } = await found(sum, weight);
    const s = scales!;
    const plain = await without(sum);
    // By channel: H + λI over s, both ways. The factor's is its inverse, in the order of the Hessian as it is.
    const damped = asChannelsLie(plain).map((h, i) => (h + (i % (n + 1) === 0 ? plain.lambda : 0)) / s[Math.floor(i / n)] / s[i % n]);
    const { id, matrix: ordered, factor, diagonal, permutation } = hessian;
    const matrix = asChannelsLie(hessian);
    expect(hessian).toEqual({ ...plain, id, matrix: ordered, factor, diagonal });
    // A device that holds the one must not take it for the other.
    expect(id).not.toBe(unscaled!.id);
    for (let i = 0; i < n; i++) {
      expect(diagonal[i] / damped[i * n + i]).toBeCloseTo(1, 6);
      for (let j = 0; j < n; j++) if (i !== j) expect(matrix[i * n + j] - damped[i * n + j]).toBeCloseTo(0, 6);
    }
    const ofFactor = (p: number, q: number): number => factor.filter((_, i) => i % n === p).reduce((total, value, i) => total + value * factor[i * n + q], 0);
    for (let p = 0; p < n; p++) {
      for (let q = 0; q < n; q += 7) {
        let product = 0;
        for (let k = 0; k < n; k++) product += ofFactor(p, k) * damped[permutation[k] * n + permutation[q]];
        expect(product).toBeCloseTo(p === q ? 1 : 0, 2);
      }
    }
  });

  it.each([3, 4] as const)("leaves much less where few channels are loud, whose scales are the largest, at %d bits", async (bits) => {
    const own = { ...scheme, bits };
    const { sum, weight } = loud(2);
    const { hessian, scales } = await found(sum, weight, {}, own);
    expect(await leftBy(sum, weight, hessian, scales, own)).toBeLessThan(0.7 * (await leftBy(sum, weight, await without(sum), undefined, own)));
    const order = [...scales!.keys()].sort((a, b) => scales![b] - scales![a]);
    expect(order.slice(0, LOUD.length).sort((a, b) => a - b)).toEqual(LOUD);
    // As many logarithms above 0 as below: the norm before is to be left about as large.
    expect(scales!.reduce((total, s) => total + Math.log(s), 0) / n).toBeCloseTo(0, 6);
  });

  it("never leaves more than without, whatever the inputs", async () => {
    const some = fc.record({
      seed: fc.nat(), channels: fc.array(fc.nat(n - 1), { maxLength: 20 }), by: fc.constantFrom(0, 0.01, 1, 5, 1000),
      norm: fc.constantFrom(undefined, "F16" as const, "BF16" as const), halved: fc.boolean(),
    });
    await fc.assert(fc.asyncProperty(some, async ({ seed, channels, by, norm, halved }) => {
      const { sum, weight } = loud(seed, channels, by);
      const producer = norm ? { norm: normOf(norm, 0, seed) } : halved ? { rowOf: Int32Array.from({ length: n }, (_, j) => j >> 1) } : {};
      const { hessian, scales } = await found(sum, weight, producer);
      const plain = await leftBy(sum, weight, await without(sum));
      // Every Hessian has an id of its own.
      if (scales === undefined) expect(hessian).toEqual({ ...(await without(sum)), id: hessian.id });
      else expect(await leftBy(sum, weight, hessian, scales)).toBeLessThan(0.99 * plain);
      for (const s of scales ?? []) expect(s > 0 && Number.isFinite(s)).toBe(true);
    }), { numRuns: 20, seed: 1 });
  });

  it("does next to no harm on rows that it did not see, where no channel stands out", async () => {
    const sum = new Float32Array(n * n);
    for (let j = 0; j < n; j++) sum[j * n + j] = tokens;
    const plain = await without(sum);
    let [scaled, unscaled] = [0, 0];
    for (const seed of [1, 2, 3]) {
      const weight = gaussians(7 * rows * n, generator(seed));
      const { hessian, scales } = await found(sum, weight);
      for (let part = 0; part < 7; part++) {
        const own = weight.slice(part * rows * n, (part + 1) * rows * n);
        scaled += await leftBy(sum, own, hessian, scales);
        unscaled += await leftBy(sum, own, plain);
      }
    }
    expect(scaled).toBeLessThan(1.02 * unscaled);
  });

  it("gives channels that come from one row one scale", async () => {
    const { sum, weight } = loud(4);
    // As grouped-query attention has it: heads of 8, two of which share a head of v.
    const rowOf = Int32Array.from({ length: n }, (_, j) => Math.floor(j / 16) * 8 + (j % 8));
    const { scales } = await found(sum, weight, { rowOf });
    for (let j = 0; j < n; j++) expect(scales![j]).toBe(scales![rowOf.indexOf(rowOf[j])]);
    expect(new Set(scales).size).toBe(n / 2);
  });

  it("leaves alone channels that are zero on every token", async () => {
    const { sum, weight } = loud(5);
    const dead = [0, 17];
    for (const j of dead) for (let i = 0; i < n; i++) sum[i * n + j] = sum[j * n + i] = 0;
    const { hessian, scales } = await found(sum, weight);
    expect([...hessian.dead]).toEqual(dead);
    for (const j of dead) expect(scales![j]).toBe(1);
    const shared = await found(sum, weight, { rowOf: Int32Array.from({ length: n }, (_, j) => j % 32) });
    expect([...shared.hessian.dead]).toEqual(dead);
    for (const j of dead) expect(shared.scales![j]).toBe(shared.scales![(j + 32) % n]);
  });

  it("tries scales by what rounding, and GPTQ, leave of the weights themselves", async () => {
    const { sum, weight } = loud(9);
    const plain = await without(sum);
    const s = Float64Array.from({ length: n }, (_, j) => 0.5 + (j % 7) / 4);
    const { dequantized } = roundToNearest(scaledColumns(weight, s), rows, n, scheme, true, plain.diagonal.map((h, j) => h / s[j] ** 2));
    const damped = asChannelsLie(plain).map((h, i) => h + (i % (n + 1) === 0 ? plain.lambda : 0));
    const expected = traceOf(nested(weight.map((w, i) => w - dequantized[i] / s[i % n]), rows), nested(damped, n));
    expect((await roundingError(la, plain, weight, scheme, s)) / expected).toBeCloseTo(1, 4);
    const { scaled, loss } = await lossOfScaled(la, plain, weight, scheme, s);
    expect(loss / (await leftBy(sum, weight, scaled, s))).toBeCloseTo(1, 3);
  });

  it("hands on why a Hessian cannot be used", async () => {
    const { sum, weight } = loud(6);
    sum[5] = NaN;
    expect(await prepareScaled(threads(1), sum, tokens, options, [weight], scheme, {})).toEqual({
      prepared: { problem: "not finite", detail: "its input holds NaN or infinity: the Hessian is NaN at channels 0 and 5" },
    });
  });
});

describe("scales that go into a norm", () => {
  it.each([["BF16", 0], ["F16", 0], ["F32", 0], ["BF16", 1], ["F16", 1], ["F32", 1]] as const)("are those whose inverse it holds to the last bit, in %s plus %d", async (dtype, plus) => {
    const { sum, weight } = loud(7);
    const norm = normOf(dtype, plus);
    const { scales } = await found(sum, weight, { norm });
    const folded = foldedNorm(norm, scales!);
    expect(folded).toEqual(roundAllToDtype(folded, dtype));
    expect(folded.filter((value, j) => value !== norm.weight[j]).length).toBeGreaterThan(n / 2);
    // Beside 2⁻²⁴, half a bit of what the finest of them stores.
    folded.forEach((value, j) => { expect(Math.abs(((value + plus) * scales![j]) / (norm.weight[j] + plus) - 1)).toBeLessThan(1e-15); });
  });

  it("are 1 where the norm has nothing to be divided, or could not hold it", async () => {
    const { sum, weight } = loud(9);
    const zero = normOf("BF16", 0);
    zero.weight[3] = 0;
    const one = normOf("BF16", 1);
    one.weight[3] = -1;
    for (const norm of [zero, one]) {
      const { scales } = await found(sum, weight, { norm });
      expect(scales![3]).toBe(1);
      expect(foldedNorm(norm, scales!)[3]).toBe(norm.weight[3]);
    }
    // Channels that hardly ever sound get small scales, and float16 ends at 65504.
    const quiet = loud(9);
    for (let j = 0; j < n; j++) for (const at of [6 * n + j, j * n + 6]) quiet.sum[at] *= 1e-3;
    const large = normOf("F16", 0);
    large.weight[6] = 60_000;
    const { scales } = await found(quiet.sum, quiet.weight, { norm: large });
    expect(scales![6]).toBe(1);
    expect(foldedNorm(large, scales!)[6]).toBe(60_000);
  });

  it("leave a weight as it lies where they are 1, though its dtype would round it otherwise", () => {
    const weight = Float32Array.of(1e-9, 3, -2);
    expect(foldedNorm({ weight, plus: 1, dtype: "F16" }, Float64Array.of(1, 2, 4))).toEqual(Float32Array.of(weight[0], 1, roundToDtype(-1.25, "F16")));
  });
});

describe("sampleRows", () => {
  const numbered = (count: number, from: number): Float32Array => Float32Array.from({ length: count * 2 }, (_, i) => from + Math.floor(i / 2));
  const firsts = (samples: Float32Array): number[] => [...samples].filter((_, i) => i % 2 === 0);

  it("takes all rows of small weights, in order", () => {
    expect(firsts(sampleRows([numbered(3, 0), numbered(2, 3)], 2))).toEqual([0, 1, 2, 3, 4]);
  });

  it("takes one row of each of 32 equal shares of all weights together, not always at the same place", () => {
    const picked = firsts(sampleRows([numbered(1000, 0), numbered(24, 1000), numbered(256, 1024)], 2));
    expect(picked.map((row) => Math.floor(row / 40))).toEqual(Array.from({ length: 32 }, (_, i) => i));
    for (const heads of [2, 4, 8]) expect(new Set(picked.map((row) => row % heads)).size).toBe(heads);
    expect(firsts(sampleRows([numbered(97, 0)], 2)).map((row, i) => row - (97 / 32) * i).every((off) => off > -1 && off < 97 / 32)).toBe(true);
  });
});

it("scaledColumns multiplies column by column", () => {
  expect(scaledColumns(Float32Array.of(1, 2, 3, 4, 5, 6), Float64Array.of(1, 10, 100))).toEqual(Float32Array.of(1, 20, 300, 4, 50, 600));
});
