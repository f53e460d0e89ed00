import { describe, expect, it } from "vitest";
import { spreadTiles, tilesOf } from "#src/engine/onnx/tiles.js";

describe.each([1, 2, 16])("tiles for %i threads", (threads) => {
  it.each([1, 3, 95, 96, 97, 172, 576, 1000, 1537])("cover the upper half of a matrix of %i once, at the end of its memory, and spread to all of it", (n) => {
    const tiles = tilesOf(n, threads);
    const matrix = new Float32Array(n * n).fill(-1);
    let next = tiles[0].offset;
    for (const { row, col, rows, cols, offset } of tiles) {
      expect(offset).toBe(next);
      next += rows * cols;
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < cols; j++) matrix[offset + i * cols + j] = Math.min(row + i, col + j) * n + Math.max(row + i, col + j);
      }
    }
    expect(next).toBe(n * n);
    spreadTiles(matrix, n, tiles);
    expect(matrix.every((value, k) => value === Math.min(k % n, Math.floor(k / n)) * n + Math.max(k % n, Math.floor(k / n)))).toBe(true);
  });
});

it("leaves almost half of the memory alone at the size of the largest layers, in a graph of bounded size", () => {
  for (const n of [4096, 14336]) {
    const tiles = tilesOf(n, 2);
    expect(tiles.length).toBeLessThanOrEqual(136);
    expect(tiles[0].offset / n ** 2).toBeGreaterThan(0.46);
  }
});
