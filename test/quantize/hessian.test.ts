import { describe, expect, it } from "vitest";
import { prepareHessian, type HessianOptions, type PreparedHessian } from "#src/quantize/hessian.js";
import { plainLinearAlgebra as la } from "../engine/plain-linear-algebra.js";
import { asChannelsLie } from "./case.js";
import { activations, generator, gram } from "./random.js";
import { inverted, referenceHessian } from "./reference.js";

const options: HessianOptions = { order: "group-aware", groupSize: 4, damp: 0.01 };

async function prepare(sum: Float32Array, tokens: number, more: Partial<HessianOptions> = {}): Promise<PreparedHessian> {
  const h = await prepareHessian(la, sum, tokens, { ...options, ...more });
  if ("problem" in h) throw new Error(h.detail);
  return h;
}

describe("prepareHessian", () => {
  const n = 24;
  const tokens = 50;
  const dead = [3, 20];
  const sum = gram(activations(tokens, n, generator(1), dead), tokens, n);

  it("factors the inverse of the ordered, damped mean, dead inputs made harmless", async () => {
    const h = await prepare(sum, tokens);
    const reference = referenceHessian(sum, tokens, "group-aware", 4, 0.01);
    expect([...h.permutation]).toEqual(reference.permutation);
    const inverse = inverted(reference.permutation.map((i) => reference.permutation.map((j) => reference.damped[i][j])));
    const scale = Math.max(...inverse.map((row, i) => row[i]));
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) {
        let product = 0;
        for (let k = 0; k < n; k++) product += h.factor[k * n + i] * h.factor[k * n + j];
        expect(Math.abs(product - inverse[i][j])).toBeLessThan(1e-6 * scale);
        if (i > j) expect(h.factor[i * n + j]).toBe(0);
      }
      expect(h.diagonal[i]).toBeCloseTo(reference.diagonal[i], 6);
    }
    expect(asChannelsLie(h)).toEqual(sum.map((x) => x / tokens));
    expect([...h.dead]).toEqual(dead);
    expect(h).toMatchObject({ n, tokens, damp: 0.01, raised: 0, order: "group-aware", groupSize: 4 });
  });

  it("shrinks towards the diagonal what it factors, and not what errors are measured in", async () => {
    const shrunk = await prepare(sum, tokens, { shrink: 0.25 });
    const plain = await prepare(sum, tokens);
    expect(shrunk.matrix).toEqual(plain.matrix);
    expect(shrunk.permutation).toEqual(plain.permutation);
    expect(shrunk.lambda).toBe(plain.lambda);
    for (let i = 0; i < n; i++) expect(shrunk.diagonal[i]).toBeCloseTo((1 + 0.25 * (1 + (50 * n) / tokens)) * (plain.diagonal[i] - plain.lambda) + plain.lambda, 10);
    const { permutation, factor } = shrunk;
    const damped = (p: number, q: number): number => (p === q ? shrunk.diagonal[permutation[p]] : plain.matrix[p * n + q]);
    for (let p = 0; p < n; p++) {
      for (let q = 0; q < n; q++) {
        let product = 0;
        for (let k = 0; k < n; k++) for (let r = 0; r < n; r++) product += factor[r * n + p] * factor[r * n + k] * damped(k, q);
        expect(product).toBeCloseTo(p === q ? 1 : 0, 4);
      }
    }
  });

  it("lies in shared memory", async () => {
    const h = await prepare(sum, tokens);
    for (const array of [h.matrix, h.factor, h.diagonal, h.permutation]) expect(array.buffer).toBeInstanceOf(SharedArrayBuffer);
  });

  it("does not depend on how large the activations are", async () => {
    const large = await prepare(sum.map((x) => x * 2 ** 40), tokens);
    const small = await prepare(sum, tokens);
    expect(large.factor).toEqual(small.factor.map((x) => x * 2 ** -20));
    expect(large.permutation).toEqual(small.permutation);
  });

  it("raises the damping until there is a factor, and says so", async () => {
    // Eigenvalues 1 ± 1.045: more than 0.045 on the diagonal is needed.
    const indefinite = Float32Array.of(1, 1.045, 1.045, 1);
    const h = await prepare(indefinite, 1, { order: "natural", groupSize: 2 });
    expect(h.damp).toBeCloseTo(0.05, 12);
    expect(h.raised).toBe(4);
    expect(h.lambda).toBeCloseTo(0.05, 12);
    expect(h.diagonal[0]).toBeCloseTo(1.05, 12);
  });

  it("gives up past a damping of 1", async () => {
    expect(await prepareHessian(la, Float32Array.of(1, 2.5, 2.5, 1), 1, { ...options, groupSize: 2 })).toEqual({
      problem: "not positive definite",
      detail: "its Hessian is not positive definite, even with damping 1.00",
    });
  });

  it("takes fewer tokens than channels", async () => {
    const few = gram(activations(5, n, generator(2)), 5, n);
    expect((await prepare(few, 5)).raised).toBe(0);
  });

  it("takes inputs that are all dead", async () => {
    const h = await prepare(new Float32Array(16), 7);
    expect([...h.dead]).toEqual([0, 1, 2, 3]);
    expect(h.factor[0]).toBeCloseTo(1 / Math.sqrt(1.01), 6);
  });

  it("names what is not finite", async () => {
    for (const [value, text] of [[NaN, "NaN"], [Infinity, "Infinity"], [-Infinity, "-Infinity"]] as const) {
      const broken = sum.slice();
      broken[2 * n + 7] = value;
      expect(await prepareHessian(la, broken, tokens, options)).toEqual({
        problem: "not finite",
        detail: `its input holds NaN or infinity: the Hessian is ${text} at channels 2 and 7`,
      });
    }
  });

  it("says when no token came", async () => {
    expect(await prepareHessian(la, sum, 0, options)).toEqual({ problem: "no tokens", detail: "no calibration token reached it" });
  });
});
