import type { LinearAlgebra } from "../engine/engine.js";
import { transposed } from "./transpose.js";

/** Channels whose products are taken at a time. */
const PANEL = 256;

/**
 * tr(M·H·Mᵀ): with H a token's mean XᵀX, the mean squared norm of the output that M makes of it.
 * @param m [rows, n]
 * @param h symmetric: row and column p of its matrix [n, n] belong to channel permutation[p], or p; absent: the identity
 */
export async function outputEnergy(
  la: LinearAlgebra, m: Float32Array, rows: number, n: number, h?: { readonly matrix: Float32Array; readonly permutation?: Int32Array },
): Promise<number> {
  if (h === undefined) return dot(m, m);
  const { matrix, permutation = Int32Array.from({ length: n }, (_, i) => i) } = h;
  const columns = transposed(m, rows, permutation);
  const products = new Float32Array(Math.min(PANEL, n) * rows);
  let half = 0;
  for (let start = 0; start < n; start += PANEL) {
    const end = Math.min(start + PANEL, n);
    const c = products.subarray(0, (end - start) * rows);
    await la.gemm({ m: end - start, n: rows, k: n - start, a: halfPanel(matrix, n, start, end), b: columns.subarray(start * rows), c, beta: 0 });
    half += dot(columns.subarray(start * rows, end * rows), c);
  }
  return 2 * half;
}

/**
 * Rows start … end of H from the diagonal block on, that block halved: what lies left of it is the mirror of what was taken
 * with earlier rows. A copy, since H lies in shared memory, which engines refuse.
 */
function halfPanel(h: Float32Array, n: number, start: number, end: number): Float32Array<ArrayBuffer> {
  const width = n - start;
  const panel = new Float32Array((end - start) * width);
  for (let i = start; i < end; i++) {
    const row = (i - start) * width;
    panel.set(h.subarray(i * n + start, (i + 1) * n), row);
    for (let j = row; j < row + end - start; j++) panel[j] /= 2;
  }
  return panel;
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
