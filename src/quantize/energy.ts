import type { LinearAlgebra } from "../engine/engine.js";

/** Channels whose products are taken at a time. */
const PANEL = 256;

/**
 * tr(M·H·Mᵀ): with H a token's mean XᵀX, the mean squared norm of the output that M makes of it.
 * @param m [rows, n]
 * @param h [n, n] symmetric; absent: the identity
 */
export async function outputEnergy(la: LinearAlgebra, m: Float32Array, rows: number, n: number, h?: Float32Array): Promise<number> {
  if (h === undefined) return dot(m, 0, m, 0, m.length);
  let energy = 0;
  const products = new Float32Array(rows * Math.min(PANEL, n));
  for (let start = 0; start < n; start += PANEL) {
    const width = Math.min(PANEL, n - start);
    const c = products.subarray(0, rows * width);
    // Columns of a symmetric matrix are its rows; copied, since H lies in shared memory, which engines refuse.
    await la.gemm({ m: rows, n: width, k: n, a: m, b: new Float32Array(h.subarray(start * n, (start + width) * n)), transB: true, c, beta: 0 });
    for (let r = 0; r < rows; r++) energy += dot(m, r * n + start, c, r * width, width);
  }
  return energy;
}

function dot(a: Float32Array, aFrom: number, b: Float32Array, bFrom: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[aFrom + i] * b[bFrom + i];
  return sum;
}
