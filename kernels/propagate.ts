import type { IKernelFunctionThis } from "gpu.js";

/**
 * rest − RᵀE: what the errors E of one block of columns do to the columns after it, in GPTQ's sweep; with a metric H for R and changes for E, what
 * they do to the gradient, in the sweeps of `refine`. A column of a weight matrix is a row here, over all its outputs, so that threads side by side load
 * values side by side.
 *
 * A thread makes a square of 2 × 2, rows 2y and 2y + 1 and outputs x and x + half: four values are the most that a thread may leave, and the square of them
 * has the fewest loads, one for each multiply-add. The outputs stand apart such that both loads of E are of neighbours too, and those of R are the same
 * for all threads of a row.
 * Threads: [outputs / 2, rows / 2] of rest.
 * @param rest [rows / 2, 2 · outputs]: squares of four, (2y, x), (2y, x + half), (2y + 1, x), (2y + 1, x + half), as this kernel leaves them
 * @param r [.., rows], upper triangular or symmetric
 * @param e [this.constants.block, outputs]: rows that there are not are zero
 * @param first the row of r that belongs to the first of e
 * @param from rows of rest before this one are done with, and not kept
 */
export function propagate(
  this: IKernelFunctionThis<{ block: number }>, rest: number[][], r: number[][], e: number[][], first: number, from: number,
): [number, number, number, number] {
  const y = this.thread.y;
  const x = this.thread.x;
  const i = 2 * y;
  if (i + 1 < from) return [0, 0, 0, 0];
  const half = this.output.x;
  let s00 = 0;
  let s01 = 0;
  let s10 = 0;
  let s11 = 0;
  for (let k = 0; k < this.constants.block; k++) {
    const r0 = r[first + k][i];
    const r1 = r[first + k][i + 1];
    const e0 = e[k][x];
    const e1 = e[k][x + half];
    s00 += r0 * e0;
    s01 += r0 * e1;
    s10 += r1 * e0;
    s11 += r1 * e1;
  }
  const at = 4 * x;
  return [rest[y][at] - s00, rest[y][at + 1] - s01, rest[y][at + 2] - s10, rest[y][at + 3] - s11];
}

export const PROPAGATE_ARGUMENTS = { rest: "Input", r: "Input", e: "Input", first: "Integer", from: "Integer" } as const;

/** What `propagate` computes, in plain loops and double precision: rest [rows, outputs] less the products of r's rows from `first` on and those of e. */
export function plainPropagate(rest: readonly Float32Array[], r: readonly Float32Array[], e: readonly Float32Array[], first: number): Float64Array[] {
  return rest.map((values, i) => Float64Array.from(values, (value, x) => e.reduce((left, errors, k) => left - r[first + k][i] * errors[x], value)));
}

/** A matrix [rows, outputs] as `propagate` takes it, filled up with zeros to even numbers; `squared[2y …]` are squares of rows 2y and 2y + 1. */
export function toSquares(matrix: Float32Array, rows: number, outputs: number): Float32Array<ArrayBuffer> {
  const half = Math.ceil(outputs / 2);
  const squares = new Float32Array(Math.ceil(rows / 2) * 4 * half);
  for (let i = 0; i < rows; i++) {
    const to = (i >> 1) * 4 * half + 2 * (i & 1);
    for (let x = 0; x < outputs; x++) squares[to + (x < half ? 4 * x : 4 * (x - half) + 1)] = matrix[i * outputs + x];
  }
  return squares;
}

/** The way back, of the squares of rows `from` … `to` into `matrix` [to − from, outputs]. `squares` begins with those of row `from`, or of the row before it if that is odd. */
export function fromSquares(squares: Float32Array, from: number, to: number, outputs: number, matrix: Float32Array): void {
  const half = Math.ceil(outputs / 2);
  for (let i = from; i < to; i++) {
    const at = ((i >> 1) - (from >> 1)) * 4 * half + 2 * (i & 1);
    const row = (i - from) * outputs;
    for (let x = 0; x < outputs; x++) matrix[row + x] = squares[at + (x < half ? 4 * x : 4 * (x - half) + 1)];
  }
}
