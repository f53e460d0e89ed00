import { isDeepStrictEqual } from "node:util";
import { describe, expect, it } from "vitest";
import { gptq } from "#src/quantize/gptq.js";
import type { PreparedHessian } from "#src/quantize/hessian.js";
import { roundToNearest } from "#src/quantize/rtn.js";
import { BITS, ORDERS, type Order, type QuantScheme } from "#src/quantize/scheme.js";
import { plainLinearAlgebra as la } from "../engine/plain-linear-algebra.js";
import { gaussians, generator } from "./random.js";
import { asChannelsLie, DAMP, makeCase, prepared, type Case } from "./case.js";
import { referenceGptq, referenceHessian, referenceUnit, traceOf, type ReferenceHessian, type ReferenceResult } from "./reference.js";

const nested = (values: ArrayLike<number>, rows: number) => {
  const cols = values.length / rows;
  return Array.from({ length: rows }, (_, r) => Array.from({ length: cols }, (_, c) => values[r * cols + c]));
};

const SIZES: readonly (readonly [n: number, rows: number, groupSizes: readonly number[]])[] = [
  [1, 5, [1]],
  [3, 1, [3, 1]],
  [24, 5, [8, 24]],
  [172, 5, [4, 43, 172]],
  [200, 1, [8, 100, 200]],
  [288, 4, [16, 32, 48, 144, 288]],
];

describe("gptq equals Optimal Brain Quantization on the explicit inverse", () => {
  for (const [n, rows, groupSizes] of SIZES) {
    const dead = n > 100 ? [5, 63, 170] : [];
    const c = makeCase(n, rows, dead);
    for (const order of ORDERS) {
      it(`${n} channels, ${rows} rows, ${order} order`, { timeout: 60_000 }, async () => {
        let reference: ReferenceHessian | undefined;
        const counts = { compared: 0, differing: 0 };
        for (const groupSize of groupSizes) {
          // Only the group-aware order depends on the group size; the elimination is the slow part.
          if (reference === undefined || order === "group-aware") reference = referenceHessian(c.sum, c.tokens, order, groupSize, DAMP);
          const h = await prepared(c, order, groupSize);
          for (const scheme of schemes(groupSize)) await compare(c, order, scheme, h, reference, counts);
        }
        // In float32 a scale may fall on the other side of a tie, or the next best grid seem best; then all that follows differs.
        expect(counts.differing).toBeLessThanOrEqual(0.01 * counts.compared);
      });
    }
  }

  // Super-blocks in one block of columns with others, as one, and over several.
  const c = makeCase(288, 4, [5, 63, 170]);
  for (const order of ORDERS) {
    it(`super-blocks, ${order} order`, { timeout: 60_000 }, async () => {
      const counts = { compared: 0, differing: 0 };
      for (const groupSize of [2, 12, 36]) {
        const scheme: QuantScheme = { bits: 4, groupSize, symmetric: false, scaleDtype: "F16", offsets: "super-block" };
        await compare(c, order, scheme, await prepared(c, order, groupSize, referenceUnit(scheme)), referenceHessian(c.sum, c.tokens, order, groupSize, DAMP, 8 * groupSize), counts);
      }
      expect(counts.differing).toBeLessThanOrEqual(0.1 * counts.compared);
    });
  }
});

/** Compares every row, with a search and without; counts those that differ, which must be about as good. */
async function compare(c: Case, order: Order, scheme: QuantScheme, h: PreparedHessian, reference: ReferenceHessian, counts: { compared: number; differing: number }): Promise<void> {
  const { n, rows, weight } = c;
  expect([...h.permutation]).toEqual(reference.permutation);
  for (const search of [true, false]) {
    const label = JSON.stringify({ ...scheme, search });
    const expected = referenceGptq(weight, rows, scheme, search, reference, order);
    const result = await gptq(la, weight, rows, scheme, search, h);
    const actual = {
      codes: nested(result.codes, rows), scales: nested(result.scales, rows), zeros: nested(result.zeros, rows),
      offsets: nested(result.offsets ?? [], rows), steps: nested(result.steps ?? [], rows), dequantized: nested(result.dequantized, rows),
    };
    let trace = 0;
    for (let r = 0; r < rows; r++) {
      const error = (row: number[]) => traceOf([row.map((y, i) => (reference.dead[i] ? 0 : weight[r * n + i]) - y)], reference.damped);
      trace += error(actual.dequantized[r]);
      counts.compared++;
      if (isDeepStrictEqual(rowOf(actual, r), rowOf(expected, r))) continue;
      counts.differing++;
      expect(Math.abs(error(actual.dequantized[r]) / error(expected.dequantized[r]) - 1), label).toBeLessThan(0.1);
    }
    expect(Math.abs(result.loss - trace), label).toBeLessThanOrEqual(1e-4 * trace + 1e-7 * Math.sqrt(trace));
  }
}

function schemes(groupSize: number): QuantScheme[] {
  const integers = BITS.flatMap((bits) => [true, false].map((symmetric) => ({ bits, groupSize, symmetric, scaleDtype: bits === 3 ? "BF16" as const : "F16" as const })));
  return [...integers, ...integers.filter(({ bits, symmetric }) => !symmetric && bits === 4).map((scheme) => ({ ...scheme, offsets: "float" as const }))];
}

function rowOf(rows: ReferenceResult, r: number) {
  return [rows.codes[r], rows.scales[r], rows.zeros[r], rows.offsets[r], rows.steps[r], rows.dequantized[r]];
}

describe("gptq", () => {
  const scheme: QuantScheme = { bits: 4, groupSize: 32, symmetric: true, scaleDtype: "F16" };

  it("leaves less output error than rounding to nearest, in every order", async () => {
    const c = makeCase(256, 16);
    for (const order of ORDERS) {
      const h = await prepared(c, order, 32);
      const output = ({ dequantized }: { readonly dequantized: Float32Array }) =>
        traceOf(nested(dequantized.map((y, i) => c.weight[i] - y), 16), nested(asChannelsLie(h), 256));
      const errorOfGptq = output(await gptq(la, c.weight, 16, scheme, true, h));
      const errorOfRtn = output(roundToNearest(c.weight, 16, 256, scheme, true, h.diagonal));
      expect(errorOfGptq).toBeLessThan(0.7 * errorOfRtn);
    }
  });

  it("is round to nearest when the channels are independent", async () => {
    const n = 64;
    const sum = Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 + (i % 7) : 0));
    const weight = gaussians(4 * n, generator(7));
    const h = await prepared({ n, rows: 4, tokens: 1, sum, weight }, "group-aware", 32);
    const expected = roundToNearest(weight, 4, n, scheme, true, h.diagonal);
    expect(await gptq(la, weight, 4, scheme, true, h)).toMatchObject(expected);
  });

  it("sets the weights of dead inputs to zero", async () => {
    const c = makeCase(64, 3, [0, 17, 63]);
    const h = await prepared(c, "natural", 32);
    const { dequantized } = await gptq(la, c.weight, 3, { ...scheme, symmetric: false }, true, h);
    for (const channel of [0, 17, 63]) {
      for (let r = 0; r < 3; r++) expect(Math.abs(dequantized[r * 64 + channel])).toBe(0);
    }
  });

  it("gives rows the same whether they are done together or apart", async () => {
    const c = makeCase(96, 37);
    const h = await prepared(c, "act", 32);
    const whole = await gptq(la, c.weight, 37, scheme, true, h);
    let loss = 0;
    for (const [from, to] of [[0, 1], [1, 20], [20, 37]]) {
      const part = await gptq(la, c.weight.slice(from * 96, to * 96), to - from, scheme, true, h);
      expect(part.codes).toEqual(whole.codes.slice(from * 96, to * 96));
      expect(part.scales).toEqual(whole.scales.slice(from * 3, to * 3));
      expect(part.zeros).toEqual(whole.zeros.slice(from * 3, to * 3));
      expect(part.dequantized).toEqual(whole.dequantized.slice(from * 96, to * 96));
      loss += part.loss;
    }
    expect(loss).toBeCloseTo(whole.loss, 10);
  });

  it("does not touch the weight", async () => {
    const c = makeCase(64, 3, [4]);
    const before = c.weight.slice();
    await gptq(la, c.weight, 3, scheme, true, await prepared(c, "natural", 32));
    expect(c.weight).toEqual(before);
  });
});
