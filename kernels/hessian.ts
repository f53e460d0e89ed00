import type { IKernelFunctionThis } from "gpu.js";

/**
 * S + AᵀB for one tile of S, over `this.constants.rows` rows of A and B. Every thread makes a square of 2 × 2 of it: a thread leaves four values at most,
 * and of all their shapes the square has the fewest loads, one for each multiply-add. A row of A and B lies in one piece, so that threads side by
 * side load values side by side.
 *
 * With A = B = X this is the Hessian update H + XᵀX, which is symmetric, and squares wholly below its diagonal are left zero.
 * Threads: [columns / 2, rows / 2] of the tile.
 * @param a [rows, n], n even
 * @param b [rows, m], m even
 * @param before the tile so far, as this kernel leaves it: [rows / 2, columns / 2] squares of four
 * @param row, col where the tile begins in S, both even
 * @param symmetric 1: S is, and squares wholly below its diagonal are not computed
 */
export function hessian(
  this: IKernelFunctionThis<{ rows: number }>, a: number[][], b: number[][], before: number[][], row: number, col: number, symmetric: number,
): [number, number, number, number] {
  const i = row + 2 * this.thread.y;
  const j = col + 2 * this.thread.x;
  if (symmetric > 0 && j < i) return [0, 0, 0, 0];
  let s00 = 0;
  let s01 = 0;
  let s10 = 0;
  let s11 = 0;
  for (let k = 0; k < this.constants.rows; k++) {
    const a0 = a[k][i];
    const a1 = a[k][i + 1];
    const b0 = b[k][j];
    const b1 = b[k][j + 1];
    s00 += a0 * b0;
    s01 += a0 * b1;
    s10 += a1 * b0;
    s11 += a1 * b1;
  }
  const y = this.thread.y;
  const at = 4 * this.thread.x;
  return [before[y][at] + s00, before[y][at + 1] + s01, before[y][at + 2] + s10, before[y][at + 3] + s11];
}

export const HESSIAN_ARGUMENTS = { a: "Input", b: "Input", before: "Input", row: "Integer", col: "Integer", symmetric: "Integer" } as const;

/** What `hessian` computes, in plain loops and double precision: the tile S [.., columns] of which `before` holds what was, row-major. */
export function plainHessian(a: readonly Float32Array[], b: readonly Float32Array[], before: Float64Array, row: number, col: number, columns: number): Float64Array {
  return before.map((sum, at) => {
    const i = row + Math.floor(at / columns);
    const j = col + (at % columns);
    return a.reduce((total, values, k) => total + values[i] * b[k][j], sum);
  });
}
