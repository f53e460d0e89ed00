/** Rows that are moved together: a cache line of float32. */
const TILE = 16;

/** [rows, n] → [n, rows] with channel permutation[p] at p. */
export function transposed(matrix: Float32Array, rows: number, permutation: Int32Array): Float32Array<ArrayBuffer> {
  const n = permutation.length;
  const result = new Float32Array(n * rows);
  for (let r0 = 0; r0 < rows; r0 += TILE) {
    const r1 = Math.min(r0 + TILE, rows);
    for (let p = 0; p < n; p++) {
      const channel = permutation[p];
      for (let r = r0; r < r1; r++) result[p * rows + r] = matrix[r * n + channel]!;
    }
  }
  return result;
}

/** The way back. */
export function untranspose<A extends Float32Array | Uint8Array>(from: A, to: A, rows: number, permutation: Int32Array): void {
  const n = permutation.length;
  for (let r0 = 0; r0 < rows; r0 += TILE) {
    const r1 = Math.min(r0 + TILE, rows);
    for (let p = 0; p < n; p++) {
      const channel = permutation[p];
      for (let r = r0; r < r1; r++) to[r * n + channel] = from[p * rows + r]!;
    }
  }
}
