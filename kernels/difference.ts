import type { IKernelFunctionThis } from "gpu.js";

/**
 * original − x where both are on the device [rows, columns]: the departure of a quantized model's activations from the original's. The two are all but
 * equal, so a difference of their products would have lost what the product of their difference keeps. Threads: [columns, rows].
 */
export function difference(this: IKernelFunctionThis, original: number[][], x: number[][]): number {
  return original[this.thread.y][this.thread.x] - x[this.thread.y][this.thread.x];
}

export const DIFFERENCE_ARGUMENTS = { original: "Input", x: "Input" } as const;

/** What `difference` computes. */
export function plainDifference(original: readonly Float32Array[], x: readonly Float32Array[]): Float32Array[] {
  return original.map((row, y) => row.map((value, j) => Math.fround(value - x[y][j])));
}
