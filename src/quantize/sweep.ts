// What the methods share that go over columns one by one. A column is a contiguous run of all rows.

/** Columns between two updates of everything: enough for a matrix product to be fast. */
export const BLOCK = 128;
/** Columns between two updates within a block: few, for plain loops. */
export const PANEL = 16;

/** to[at …] −= by · from[fromAt …], over `rows` values. */
export function subtract(to: Float32Array, at: number, from: Float32Array, fromAt: number, rows: number, by: number): void {
  for (let r = 0; r < rows; r++) to[at + r] = to[at + r] - by * from[fromAt + r];
}
