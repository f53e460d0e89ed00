import type { IKernelFunctionThis } from "gpu.js";

/**
 * Brings activations to the device, where several kernels read them, in the shape that `hessian` takes: with rows and columns of zeros to fill it up.
 * Zeros add nothing to AᵀB. Threads: [columns, rows] of that shape.
 * @param x [rows, columns] as they are
 */
export function upload(this: IKernelFunctionThis, x: number[][], rows: number, columns: number): number {
  if (this.thread.y < rows && this.thread.x < columns) return x[this.thread.y][this.thread.x];
  return 0;
}

export const UPLOAD_ARGUMENTS = { x: "Input", rows: "Integer", columns: "Integer" } as const;

/** What `upload` computes: x [rows, columns] filled up to [toRows, toColumns], row by row. */
export function plainUpload(x: Float32Array, rows: number, columns: number, toRows: number, toColumns: number): Float32Array[] {
  return Array.from({ length: toRows }, (_, y) => Float32Array.from({ length: toColumns }, (_unused, j) => (y < rows && j < columns ? x[y * columns + j] : 0)));
}
