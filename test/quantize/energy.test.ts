import { describe, expect, it } from "vitest";
import { outputEnergy } from "#src/quantize/energy.js";
import { plainLinearAlgebra } from "../engine/plain-linear-algebra.js";
import { activations, gaussians, generator, gram } from "./random.js";
import { traceOf } from "./reference.js";

describe("outputEnergy", () => {
  it.each([[1, 1], [3, 7], [2, 256], [5, 300]])("is tr(M·H·Mᵀ) for M [%d, %d]", async (rows, n) => {
    const random = generator(n);
    const m = gaussians(rows * n, random);
    const h = gram(activations(20, n, random), 20, n);
    const nested = (values: Float32Array, count: number) => Array.from({ length: count }, (_, r) => [...values.subarray(r * n, (r + 1) * n)]);
    const expected = traceOf(nested(m, rows), nested(h, n));
    expect((await outputEnergy(plainLinearAlgebra, m, rows, n, { matrix: h })) / expected).toBeCloseTo(1, 5);
    const permutation = Int32Array.from({ length: n }, (_, p) => (p * 11 + 3) % n);
    const matrix = h.map((_, i) => h[permutation[Math.floor(i / n)] * n + permutation[i % n]]);
    expect((await outputEnergy(plainLinearAlgebra, m, rows, n, { matrix, permutation })) / expected).toBeCloseTo(1, 5);
  });

  it("is the squared norm of M where there is no H", async () => {
    expect(await outputEnergy(plainLinearAlgebra, Float32Array.of(3, 4, 0, 12), 2, 2)).toBe(169);
  });
});
