/** A tile of a symmetric matrix, on or above the diagonal, and where its values [rows, cols] lie in the matrix's memory until it is spread. */
export interface Tile {
  readonly row: number;
  readonly col: number;
  readonly rows: number;
  readonly cols: number;
  readonly offset: number;
}

// Narrower tiles run slower, wider ones compute more below the diagonal than they gain (measured on 2 cores, n = 576 … 4096).
const NARROWEST = 192;
const NARROWEST_OF_WIDE = 256;
const WIDE = 1024;
// What a thread needs of a tile's width to be kept busy.
const WIDTH_A_THREAD = 32;
// Sixteen tiles across leave 6 % of needless work, and a graph of 136 products.
const MOST_ACROSS = 16;
// ONNX Runtime shares a product out in steps of 16 columns.
const STEP = 32;

/**
 * The tiles of the upper half of an n × n matrix, band by band. Together they fill the *end* of its n² values: the memory before
 * them is not touched, so the system does not lend it, and spreading them from the front on never overtakes what is still to be read.
 */
export function tilesOf(n: number, threads: number): readonly Tile[] {
  const least = Math.max(n < WIDE ? NARROWEST : NARROWEST_OF_WIDE, Math.min(256, WIDTH_A_THREAD * threads));
  const width = Math.max(least, Math.ceil(n / MOST_ACROSS / STEP) * STEP);
  const tiles: Tile[] = [];
  let offset = 0;
  for (let row = 0; row < n; row += width) {
    for (let col = row; col < n; col += width) {
      const rows = Math.min(width, n - row), cols = Math.min(width, n - col);
      tiles.push({ row, col, rows, cols, offset });
      offset += rows * cols;
    }
  }
  return tiles.map((tile) => ({ ...tile, offset: tile.offset + n * n - offset }));
}

/** Moves the tiles to where they belong in the full matrix, in place, and mirrors the upper half into the lower. */
export function spreadTiles(matrix: Float32Array, n: number, tiles: readonly Tile[]): void {
  for (let first = 0; first < tiles.length;) {
    const { row, rows } = tiles[first];
    const band = tiles.slice(first).filter((tile) => tile.row === row);
    const start = band[0].offset;
    const values = matrix.slice(start, start + rows * (n - row));
    for (const { col, cols, offset } of band) {
      for (let i = 0; i < rows; i++) matrix.set(values.subarray(offset - start + i * cols, offset - start + (i + 1) * cols), (row + i) * n + col);
    }
    first += band.length;
  }
  for (const { row, col, rows, cols } of tiles) {
    for (let i = row; i < row + rows; i++) {
      for (let j = Math.max(col, i + 1); j < col + cols; j++) matrix[j * n + i] = matrix[i * n + j]!;
    }
  }
}
