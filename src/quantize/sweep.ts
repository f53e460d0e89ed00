// What the methods share that go over columns one by one. A column is a contiguous run of all rows.

/** Columns between two updates of everything: enough for a matrix product to be fast. */
export const BLOCK = 128;
/** Columns between two updates within a block or a group: few, for plain loops. */
export const PANEL = 16;

/** to[at …] −= by · from[fromAt …], over `rows` values. */
export function subtract(to: Float32Array, at: number, from: Float32Array, fromAt: number, rows: number, by: number): void {
  for (let r = 0; r < rows; r++) to[at + r] = to[at + r] - by * from[fromAt + r];
}

/** to[at …] −= Σ_c by[byAt + c] · from[fromAt + c·rows …] for `count` columns c; four at a time, so that less goes through memory. */
export function subtractColumns(
  to: Float32Array, at: number, from: Float32Array, fromAt: number, rows: number, count: number, by: Float32Array, byAt: number,
): void {
  let c = 0;
  for (; c + 4 <= count; c += 4) {
    const a = fromAt + c * rows, b = a + rows, d = b + rows, e = d + rows;
    const byA = by[byAt + c], byB = by[byAt + c + 1], byD = by[byAt + c + 2], byE = by[byAt + c + 3];
    for (let r = 0; r < rows; r++) to[at + r] = to[at + r] - byA * from[a + r] - byB * from[b + r] - byD * from[d + r] - byE * from[e + r];
  }
  for (; c < count; c++) subtract(to, at, from, fromAt + c * rows, rows, by[byAt + c]);
}

/** Σ_j x[j·rows + r] · y[j·rows + r] over `count` columns j, for each row r; four at a time. */
export function dotColumns(x: Float32Array, y: Float32Array, rows: number, count: number): Float64Array {
  const sums = new Float64Array(rows);
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    const a = j * rows, b = a + rows, c = b + rows, d = c + rows;
    for (let r = 0; r < rows; r++) sums[r] = sums[r] + x[a + r] * y[a + r] + x[b + r] * y[b + r] + x[c + r] * y[c + r] + x[d + r] * y[d + r];
  }
  for (; j < count; j++) for (let r = 0, i = j * rows; r < rows; r++, i++) sums[r] = sums[r] + x[i] * y[i];
  return sums;
}
