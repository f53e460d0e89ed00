import { describe, expect, it } from "vitest";
import { prepareHessian, type PreparedHessian } from "#src/quantize/hessian.js";
import { ORDERS, type Order } from "#src/quantize/scheme.js";
import { crossCorrelation, retargeted, type CrossCorrelation } from "#src/quantize/retarget.js";
import { plainLinearAlgebra } from "../engine/plain-linear-algebra.js";
import { random, relativeError } from "../engine/random.js";

/** Inputs of the original and of the quantized model [tokens, n]: alike but for an error that depends on them, and noise. */
function inputs(tokens: number, n: number, seed: number): { x: Float64Array; quantized: Float64Array } {
  const quantized = Float64Array.from(random(tokens * n, seed));
  const noise = random(tokens * n, seed + 1);
  const mix = random(n * n, seed + 2);
  const x = quantized.map((value, i) => {
    const [t, j] = [Math.floor(i / n), i % n];
    let sum = value + 0.02 * noise[i];
    for (let k = 0; k < n; k++) sum += (0.2 / n) * mix[j * n + k] * quantized[t * n + k];
    return sum;
  });
  return { x, quantized };
}

/** aᵀ·b, a and b [tokens, n]. */
function gram(a: Float64Array, b: Float64Array, n: number): Float64Array {
  const sum = new Float64Array(n * n);
  for (let t = 0; t < a.length / n; t++) for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) sum[i * n + j] += a[t * n + i] * b[t * n + j];
  return sum;
}

/** y·A = b for every row of b, A symmetric [n, n], by elimination with pivots. */
function solveRows(a: Float64Array, b: Float64Array, n: number): Float64Array {
  const m = a.slice();
  const y = b.slice();
  const rows = b.length / n;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(m[k * n + i]) > Math.abs(m[k * n + pivot])) pivot = i;
    const swap = (matrix: Float64Array, r: number) => ([matrix[r * n + k], matrix[r * n + pivot]] = [matrix[r * n + pivot], matrix[r * n + k]]);
    for (let r = 0; r < n; r++) swap(m, r);
    for (let r = 0; r < rows; r++) swap(y, r);
    for (let i = k + 1; i < n; i++) {
      const factor = m[k * n + i] / m[k * n + k];
      for (let r = 0; r < n; r++) m[r * n + i] -= factor * m[r * n + k];
      for (let r = 0; r < rows; r++) y[r * n + i] -= factor * y[r * n + k];
    }
  }
  // Now m is lower triangular: y·m = what y has become.
  for (let k = n - 1; k >= 0; k--) {
    for (let r = 0; r < rows; r++) {
      for (let i = k + 1; i < n; i++) y[r * n + k] -= y[r * n + i] * m[i * n + k];
      y[r * n + k] /= m[k * n + k];
    }
  }
  return y;
}

/** ‖X·Wᵀ − X̃·Vᵀ‖² in doubles. */
function squaredError(x: Float64Array, w: ArrayLike<number>, quantized: Float64Array, v: ArrayLike<number>, rows: number, n: number): number {
  let sum = 0;
  for (let t = 0; t < x.length / n; t++) {
    for (let r = 0; r < rows; r++) {
      let difference = 0;
      for (let j = 0; j < n; j++) difference += x[t * n + j] * w[r * n + j] - quantized[t * n + j] * v[r * n + j];
      sum += difference * difference;
    }
  }
  return sum;
}

async function gathered(x: Float64Array, quantized: Float64Array, n: number, damp: number, order: Order = "group-aware", groupSize = n): Promise<{ hessian: PreparedHessian; cross: CrossCorrelation; c: Float64Array }> {
  const tokens = x.length / n;
  const hessian = await prepareHessian(plainLinearAlgebra, Float32Array.from(gram(quantized, quantized, n)), tokens, { order, groupSize, damp });
  const c = gram(x.map((value, i) => value - quantized[i]), quantized, n);
  const cross = crossCorrelation(Float32Array.from(c), tokens);
  if (!("factor" in hessian) || !("matrix" in cross)) throw new Error("not usable");
  return { hessian, cross, c };
}

describe("retargeting", () => {
  it.each([[1, 8, 0.01], [3, 20, 0.01], [40, 200, 0.01], [40, 60, 0.0001], [300, 400, 0.05]])("of %i inputs after %i tokens adds as much of W·C·(H + λI)⁻¹ as they can tell, damped by %f", async (n, tokens, damp) => {
    const { x, quantized } = inputs(tokens, n, n + tokens);
    const { hessian, cross, c } = await gathered(x, quantized, n, damp);
    const rows = 5;
    const w = random(rows * n, 7);
    const h = gram(quantized, quantized, n);
    for (let j = 0; j < n; j++) h[j * n + j] += hessian.lambda * tokens;
    const product = new Float64Array(rows * n);
    await plainLinearAlgebra.gemm({ m: rows, n, k: n, a: Float64Array.from(w), b: c, c: product });
    const expected = solveRows(h, product, n);
    const target = await retargeted(plainLinearAlgebra, w, rows, { hessian, cross });
    const share = tokens / (tokens + 8 * n);
    expect(relativeError(target.map((value, i) => value - w[i]), expected.map((value) => share * value))).toBeLessThan(3e-5);
  });

  it.each(ORDERS)("means the same in %s order", async (order) => {
    const { x, quantized } = inputs(100, 32, 3);
    // Channels of different size, so that the orders differ.
    for (const values of [x, quantized]) values.forEach((value, i) => { values[i] = value * (1 + ((i % 32) * 7) % 32); });
    const [natural, other] = [await gathered(x, quantized, 32, 0.01, "natural", 8), await gathered(x, quantized, 32, 0.01, order, 8)];
    const w = random(4 * 32, 1);
    const [a, b] = [await retargeted(plainLinearAlgebra, w, 4, natural), await retargeted(plainLinearAlgebra, w, 4, other)];
    expect(relativeError(b, a)).toBeLessThan(1e-5);
  });

  it("comes nearer to the original's output than the weight itself, and nothing that is near to it does better", async () => {
    const [n, rows] = [6, 3];
    const { x, quantized } = inputs(4000, n, 5);
    const { hessian, cross } = await gathered(x, quantized, n, 1e-6);
    const w = random(rows * n, 2);
    const target = await retargeted(plainLinearAlgebra, w, rows, { hessian, cross });
    const best = squaredError(x, w, quantized, target, rows, n);
    expect(best).toBeLessThan(0.5 * squaredError(x, w, quantized, w, rows, n));
    for (let seed = 0; seed < 20; seed++) {
      const step = random(rows * n, 50 + seed);
      expect(squaredError(x, w, quantized, target.map((value, i) => value + 0.01 * step[i]), rows, n)).toBeGreaterThan(best);
    }
  });

  it("leaves the weight where the streams are equal, and the columns of dead inputs in any case", async () => {
    const n = 12;
    const { x, quantized } = inputs(60, n, 9);
    const w = random(2 * n, 4);
    const same = await gathered(quantized, quantized, n, 0.01);
    expect(await retargeted(plainLinearAlgebra, w, 2, same)).toEqual(w);
    // Dead in the quantized model, but not in the original.
    for (let i = 0; i < quantized.length; i++) if ([3, 7].includes(i % n)) quantized[i] = 0;
    const { hessian, cross } = await gathered(x, quantized, n, 0.01);
    expect([...hessian.dead]).toEqual([3, 7]);
    const target = await retargeted(plainLinearAlgebra, w, 2, { hessian, cross });
    const moved = Array.from({ length: 2 * n }, (_, i) => target[i] !== w[i]);
    expect(moved).toEqual(moved.map((_, i) => ![3, 7].includes(i % n)));
  });

  it("says what cannot be used, and takes the mean over tokens of what can", () => {
    expect(crossCorrelation(Float32Array.of(1, 2, NaN, 4), 10)).toEqual({ problem: "not finite", detail: "its input in the original model holds NaN or infinity" });
    const cross = crossCorrelation(Float32Array.of(1, 2, -3, 4), 2);
    expect("matrix" in cross && [...cross.matrix]).toEqual([0.5, 1, -1.5, 2]);
    expect("matrix" in cross && cross.matrix.buffer).toBeInstanceOf(SharedArrayBuffer);
  });
});
