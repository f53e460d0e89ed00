import fc from "fast-check";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, it } from "vitest";
import { gptq } from "#src/quantize/gptq.js";
import { refine } from "#src/quantize/refine.js";
import type { RoundedRows } from "#src/quantize/rounded.js";
import { BITS, ORDERS, type Order, type QuantScheme } from "#src/quantize/scheme.js";
import { roundAllToDtype } from "#src/safetensors/floats.js";
import { plainLinearAlgebra as la } from "../engine/plain-linear-algebra.js";
import { DAMP, makeCase, prepared, type Case } from "./case.js";
import { referenceHessian, referenceRefine, referenceUnit, traceOf } from "./reference.js";

const row = (values: ArrayLike<number>, r: number, rows: number) => Array.from({ length: values.length / rows }, (_, i) => values[(r * values.length) / rows + i]);

const parts = (of: RoundedRows, r: number, rows: number) => ({
  codes: row(of.codes, r, rows), scales: row(of.scales, r, rows), zeros: row(of.zeros, r, rows),
  offsets: row(of.offsets ?? [], r, rows), steps: row(of.steps ?? [], r, rows), dequantized: row(of.dequantized, r, rows),
});

const SIZES: readonly (readonly [n: number, rows: number, groupSizes: readonly number[]])[] = [
  [1, 3, [1]],
  [24, 4, [4, 24]],
  [172, 3, [43, 172]],
  [200, 2, [8, 100]],
];

describe("refine equals descent with every gradient summed anew", () => {
  for (const [n, rows, groupSizes] of SIZES) {
    const dead = n > 100 ? [5, 63, 170] : [];
    const c = makeCase(n, rows, dead);
    for (const order of ORDERS) {
      it(`${n} channels, ${rows} rows, ${order} order`, { timeout: 60_000 }, async () => {
        const counts = { compared: 0, differing: 0 };
        for (const groupSize of groupSizes) {
          const schemes = BITS.flatMap((bits) => [true, false].map((symmetric): QuantScheme => ({ bits, groupSize, symmetric, scaleDtype: bits === 3 ? "BF16" : "F16" })));
          await compare(c, order, [...schemes, { bits: 4, groupSize, symmetric: false, scaleDtype: "F16", offsets: "float" }], counts);
        }
        // In float32 a code may fall on the other side of a tie; then all that follows differs.
        expect(counts.differing).toBeLessThanOrEqual(0.05 * counts.compared);
      });
    }
  }

  const c = makeCase(192, 4, [5, 63, 170]);
  for (const order of ORDERS) {
    it(`super-blocks, ${order} order`, { timeout: 60_000 }, async () => {
      const counts = { compared: 0, differing: 0 };
      for (const groupSize of [4, 24]) await compare(c, order, [{ bits: 4, groupSize, symmetric: false, scaleDtype: "F16", offsets: "super-block" }], counts);
      expect(counts.differing).toBeLessThanOrEqual(0.2 * counts.compared);
    });
  }
});

/** Compares every row after one sweep and after four; counts those that differ, which must be about as good. The schemes are alike in their groups. */
async function compare(c: Case, order: Order, schemes: readonly QuantScheme[], counts: { compared: number; differing: number }): Promise<void> {
  const { rows, weight } = c;
  const { groupSize } = schemes[0];
  const unit = referenceUnit(schemes[0]);
  const reference = referenceHessian(c.sum, c.tokens, order, groupSize, DAMP, unit);
  const h = await prepared(c, order, groupSize, unit);
  for (const scheme of schemes) {
    const start = await gptq(la, weight, rows, scheme, true, h);
    for (const sweeps of [1, 4]) {
      const label = JSON.stringify({ ...scheme, sweeps });
      const result = await refine(la, weight, rows, scheme, h, start, sweeps);
      let loss = 0;
      for (let r = 0; r < rows; r++) {
        const target = row(weight, r, rows);
        const lossOf = (values: number[]) => traceOf([values.map((y, i) => (reference.dead[i] ? 0 : target[i]) - y)], reference.damped);
        const actual = parts(result, r, rows);
        const expected = referenceRefine(target, parts(start, r, rows), scheme, reference, order, sweeps);
        const mine = lossOf(actual.dequantized);
        const before = lossOf(row(start.dequantized, r, rows));
        loss += mine;
        expect(mine, label).toBeLessThanOrEqual(before * (1 + 1e-6));
        counts.compared++;
        if (isDeepStrictEqual(actual, lossOf(expected.dequantized) >= before ? parts(start, r, rows) : expected)) continue;
        counts.differing++;
        expect(Math.abs(mine / lossOf(expected.dequantized) - 1), label).toBeLessThan(0.1);
      }
      expect(Math.abs(result.loss - loss), label).toBeLessThanOrEqual(1e-4 * loss + 1e-7 * Math.sqrt(loss));
    }
  }
}

describe("refine", () => {
  const scheme = (bits: QuantScheme["bits"], groupSize: number, symmetric = true): QuantScheme => ({ bits, groupSize, symmetric, scaleDtype: "F16" });

  it("never leaves a row worse than it was", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          seed: fc.nat(), groups: fc.integer({ min: 1, max: 4 }), groupSize: fc.integer({ min: 1, max: 12 }), bits: fc.constantFrom(...BITS),
          symmetric: fc.boolean(), order: fc.constantFrom(...ORDERS), search: fc.boolean(), sweeps: fc.integer({ min: 0, max: 10 }),
          size: fc.constantFrom(1, 1e-6, 1e4),
        }),
        async ({ seed, groups, groupSize, bits, symmetric, order, search, sweeps, size }) => {
          const n = groups * groupSize;
          const rows = 3;
          const c = makeCase(n, rows, n > 4 ? [1] : [], seed);
          const weight = c.weight.map((w) => w * size);
          const h = await prepared(c, order, groupSize);
          const reference = referenceHessian(c.sum, c.tokens, order, groupSize, DAMP);
          const start = await gptq(la, weight, rows, scheme(bits, groupSize, symmetric), search, h);
          const copy = structuredClone(start);
          const result = await refine(la, weight, rows, scheme(bits, groupSize, symmetric), h, start, sweeps);
          expect(start).toEqual(copy);
          for (let r = 0; r < rows; r++) {
            const lossOf = (values: Float32Array) =>
              traceOf([row(values, r, rows).map((y, i) => (reference.dead[i] ? 0 : weight[r * n + i]) - y)], reference.damped);
            const before = lossOf(start.dequantized);
            expect(lossOf(result.dequantized)).toBeLessThanOrEqual(before * (1 + 1e-5) + 1e-12 * size * size);
            for (let i = 0; i < n; i++) if (reference.dead[i]) expect(Math.abs(result.dequantized[r * n + i])).toBe(0);
          }
          expect(Math.max(...result.codes)).toBeLessThan(2 ** bits);
        },
      ),
      { numRuns: 150 },
    );
  });

  it("takes a tenth off GPTQ's loss in four sweeps, and more in more", async () => {
    const c = makeCase(256, 16);
    const h = await prepared(c, "group-aware", 32);
    for (const bits of [2, 3, 4] as const) {
      const start = await gptq(la, c.weight, 16, scheme(bits, 32), true, h);
      const losses = [start.loss];
      for (const sweeps of [4, 16]) losses.push((await refine(la, c.weight, 16, scheme(bits, 32), h, start, sweeps)).loss);
      expect(losses[1]).toBeLessThan(0.9 * losses[0]);
      expect(losses[2]).toBeLessThan(0.99 * losses[1]);
    }
  });

  it("goes on getting better once its gradients were computed anew, after 32 sweeps", async () => {
    const c = makeCase(256, 16);
    const h = await prepared(c, "group-aware", 32);
    const start = await gptq(la, c.weight, 16, scheme(4, 32), true, h);
    const [some, many] = await Promise.all([16, 40].map(async (sweeps) => (await refine(la, c.weight, 16, scheme(4, 32), h, start, sweeps)).loss));
    expect(many).toBeLessThan(some);
  });

  it("finds the best codes there are for most rows of four channels", async () => {
    const n = 4;
    const rows = 60;
    const c = makeCase(n, rows);
    const h = await prepared(c, "natural", n);
    const { damped } = referenceHessian(c.sum, c.tokens, "natural", n, DAMP);
    const start = await gptq(la, c.weight, rows, scheme(2, n), true, h);
    const found = await refine(la, c.weight, rows, scheme(2, n), h, start, 16);
    // All 4⁴ codes, for the scale that was found.
    const codes = Array.from({ length: 256 }, (_, i) => [i & 3, (i >> 2) & 3, (i >> 4) & 3, i >> 6]);
    const optimal = (of: { dequantized: Float32Array; scales: Float32Array }) =>
      Array.from({ length: rows }, (_, r) => {
        const lossOf = (values: number[]) => traceOf([values.map((y, i) => c.weight[r * n + i] - y)], damped);
        return lossOf(row(of.dequantized, r, rows)) <= Math.min(...codes.map((code) => lossOf(code.map((q) => of.scales[r] * (q - 2))))) * (1 + 1e-5);
      }).filter(Boolean).length;
    expect(optimal(found)).toBeGreaterThanOrEqual(0.9 * rows);
    expect(optimal(start)).toBeLessThan(optimal(found));
  });

  it("gives rows the same whether they are done together or apart", async () => {
    const c = makeCase(96, 37);
    const h = await prepared(c, "act", 32);
    const start = await gptq(la, c.weight, 37, scheme(4, 32), true, h);
    const whole = await refine(la, c.weight, 37, scheme(4, 32), h, start, 9);
    for (const [from, to] of [[0, 1], [1, 20], [20, 37]]) {
      const weight = c.weight.slice(from * 96, to * 96);
      const part = await refine(la, weight, to - from, scheme(4, 32), h, await gptq(la, weight, to - from, scheme(4, 32), true, h), 9);
      expect(part.codes).toEqual(whole.codes.slice(from * 96, to * 96));
      expect(part.scales).toEqual(whole.scales.slice(from * 3, to * 3));
      expect(part.dequantized).toEqual(whole.dequantized.slice(from * 96, to * 96));
    }
  });

  it("keeps to scales that all formats of a run hold, alone and times zero points", async () => {
    const c = makeCase(256, 16);
    const h = await prepared(c, "group-aware", 32);
    const free = scheme(4, 32, false);
    const held: QuantScheme = { ...free, heldBy: { scales: ["F16", "BF16"], products: ["BF16"] } };
    const start = await gptq(la, c.weight, 16, held, true, h);
    const refined = await refine(la, c.weight, 16, held, h, start, 4);
    for (const { scales, zeros } of [start, refined]) {
      const products = scales.map((scale, k) => scale * zeros[k]);
      expect([roundAllToDtype(scales, "F16"), roundAllToDtype(scales, "BF16"), roundAllToDtype(products, "BF16")]).toEqual([scales, scales, products]);
    }
    expect(refined.scales).not.toEqual(start.scales);
    expect(refined.loss).toBeLessThan(0.95 * start.loss);
    expect(refined.loss).toBeLessThan(1.1 * (await refine(la, c.weight, 16, free, h, await gptq(la, c.weight, 16, free, true, h), 4)).loss);
  });

  it("does nothing in no sweeps", async () => {
    const c = makeCase(8, 2);
    const h = await prepared(c, "natural", 8);
    const start = await gptq(la, c.weight, 2, scheme(4, 8), true, h);
    expect(await refine(la, c.weight, 2, scheme(4, 8), h, start, 0)).toBe(start);
  });
});
