import { describe, expect, it } from "vitest";
import { inverseCholesky } from "#src/engine/linear-algebra.js";
import { onnxLinearAlgebra } from "#src/engine/onnx/linear-algebra.js";
import { plainLinearAlgebra } from "./plain-linear-algebra.js";
import { random, relativeError } from "./random.js";

/** XᵀX + damp · mean diagonal for random X [rows, n] whose columns differ in size by up to 1e3. */
async function hessian(n: number, rows: number, damp: number): Promise<Float64Array> {
  const size = Float64Array.from({ length: n }, (_, i) => 10 ** (-3 * ((i * 7) % n) / n));
  const x = Float64Array.from(random(rows * n, n), (value, i) => value * size[i % n]);
  const h = new Float64Array(n * n);
  await onnxLinearAlgebra().gemm({ m: n, n, k: rows, a: x, b: x, c: h, transA: true });
  let trace = 0;
  for (let i = 0; i < n; i++) trace += h[i * n + i];
  for (let i = 0; i < n; i++) h[i * n + i] += (damp * trace) / n;
  return h;
}

/** R by the definition: invert H by Gauss and Jordan, then factor the inverse as RᵀR, row by row. */
function bruteForce(h: Float64Array, n: number): Float64Array {
  const a = h.slice(), inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) inverse[i * n + i] = 1;
  for (let p = 0; p < n; p++) {
    const pivot = a[p * n + p];
    for (let j = 0; j < n; j++) { a[p * n + j] /= pivot; inverse[p * n + j] /= pivot; }
    for (let i = 0; i < n; i++) {
      const f = a[i * n + p];
      if (i !== p) for (let j = 0; j < n; j++) { a[i * n + j] -= f * a[p * n + j]; inverse[i * n + j] -= f * inverse[p * n + j]; }
    }
  }
  const r = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = i; j < n; j++) {
      let sum = inverse[i * n + j];
      for (let k = 0; k < i; k++) sum -= r[k * n + i] * r[k * n + j];
      r[i * n + j] = i === j ? Math.sqrt(sum) : sum / r[i * n + i];
    }
  }
  return r;
}

/** ‖R·H·Rᵀ − I‖∞ over all entries. */
async function residual(r: Float64Array, h: Float64Array, n: number): Promise<number> {
  const la = onnxLinearAlgebra();
  const rh = new Float64Array(n * n), product = new Float64Array(n * n);
  await la.gemm({ m: n, n, k: n, a: r, b: h, c: rh });
  await la.gemm({ m: n, n, k: n, a: rh, b: r, c: product, transB: true });
  return product.reduce((most, value, i) => Math.max(most, Math.abs(value - (i % (n + 1) === 0 ? 1 : 0))), 0);
}

describe.each([["plain loops", plainLinearAlgebra], ["ONNX Runtime", onnxLinearAlgebra()]])("inverseCholesky on %s", (_, la) => {
  it.each([1, 3, 64, 128, 129, 200])("is the factor of the inverse at n = %i", async (n) => {
    const h = await hessian(n, n + 10, 0.01);
    const r = (await inverseCholesky(la, h.slice(), n))!;
    expect(relativeError(r, bruteForce(h, n))).toBeLessThan(1e-10);
    expect(r.every((value, k) => k % n >= Math.floor(k / n) || value === 0)).toBe(true);
  });

  it.each([
    ["zero", 3, (h: Float64Array) => h.fill(0)],
    ["indefinite", 129, (h: Float64Array) => { h[5 * 129 + 5] = -1; }],
    ["singular: a row of zeros at the end", 140, (h: Float64Array) => { for (let i = 0; i < 140; i++) h[i * 140 + 139] = h[139 * 140 + i] = 0; }],
    ["singular: a row of zeros at the start", 140, (h: Float64Array) => { for (let i = 0; i < 140; i++) h[i * 140] = h[i] = 0; }],
    ["infinite on the diagonal", 130, (h: Float64Array) => { h[7 * 131] = Infinity; }],
    ["infinite beside the diagonal", 130, (h: Float64Array) => { h[3 * 130 + 129] = h[129 * 130 + 3] = Infinity; }],
    ["NaN", 130, (h: Float64Array) => { h[3 * 130 + 100] = h[100 * 130 + 3] = NaN; }],
  ])("is undefined for a matrix that is %s", async (_, n, spoil) => {
    const h = await hessian(n, n + 10, 0.01);
    spoil(h);
    expect(await inverseCholesky(la, h, n)).toBeUndefined();
  });
});

describe("inverseCholesky", () => {
  it.each([[576, 700, 0.01], [576, 100, 0.01], [576, 100, 1e-6]])("leaves no residual at n = %i, of %i rows and damped by %f", async (n, rows, damp) => {
    const h = await hessian(n, rows, damp);
    const r = (await inverseCholesky(onnxLinearAlgebra(), h.slice(), n))!;
    expect(await residual(r, h, n)).toBeLessThan(1e-8);
  });

  it("refuses a matrix of another size", async () => {
    await expect(inverseCholesky(plainLinearAlgebra, new Float64Array(8), 3)).rejects.toThrow("A matrix of 8 values is not 3 × 3.");
  });
});

describe("gemm on ONNX Runtime", () => {
  it.each([
    [5, 7, 11, false, false, 1, 0], [5, 7, 11, true, false, 1, 1], [5, 7, 11, false, true, -1, 1], [5, 7, 11, true, true, 0.5, -2], [1, 1, 1, false, false, 1, 0],
    [130, 33, 65, false, true, -1, 1],
  ])("is what plain loops make: %i × %i × %i, transposed %s %s, alpha %f, beta %f", async (m, n, k, transA, transB, alpha, beta) => {
    for (const Type of [Float32Array, Float64Array] as const) {
      // Views into larger buffers, as callers pass them.
      const view = (length: number, seed: number) => new Type([...random(3), ...random(length, seed), ...random(2)]).subarray(3, 3 + length);
      const product = { m, n, k, a: view(m * k, 1), b: view(k * n, 2), transA, transB, alpha, beta };
      const c = view(m * n, 3), expected = c.slice();
      await plainLinearAlgebra.gemm({ ...product, c: expected });
      await onnxLinearAlgebra().gemm({ ...product, c });
      expect(relativeError(c, expected)).toBeLessThan(Type === Float32Array ? 1e-6 : 1e-14);
    }
  });

  it("takes operands in shared memory", async () => {
    const shared = (values: Float32Array) => {
      const copy = new Float32Array(new SharedArrayBuffer(values.byteLength));
      copy.set(values);
      return copy;
    };
    const a: Float32Array = shared(random(6)), b: Float32Array = shared(random(6, 2)), c: Float32Array = shared(random(4, 3)), expected = c.slice();
    await plainLinearAlgebra.gemm({ m: 2, n: 2, k: 3, a, b, c: expected, beta: 1 });
    await onnxLinearAlgebra().gemm({ m: 2, n: 2, k: 3, a, b, c, beta: 1 });
    expect(relativeError(c, expected)).toBeLessThan(1e-6);
  });
});
