import type { LinearAlgebra } from "#src/engine/engine.js";

/** Matrix products in plain loops, summed in double precision: slow, and plain enough to be believed. */
export const plainLinearAlgebra: LinearAlgebra = {
  gemm({ m, n, k, a, b, c, transA = false, transB = false, alpha = 1, beta = 0 }) {
    if (a.length !== m * k || b.length !== k * n || c.length !== m * n) throw new RangeError("gemm: an operand's length does not match m, n and k");
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let p = 0; p < k; p++) sum += a[transA ? p * m + i : i * k + p] * b[transB ? j * k + p : p * n + j];
        c[i * n + j] = alpha * sum + (beta === 0 ? 0 : beta * c[i * n + j]);
      }
    }
    return Promise.resolve();
  },
};
