import { describe, expect, it } from "vitest";
import { columnWorkspaces } from "#src/quantize/column-kernels.js";
import { roundHalfEven } from "#src/quantize/rounding.js";
import { gaussians, generator } from "./random.js";

const f = Math.fround;
// Vectors by fours, by one, and single floats; and all of them after one another.
const ROWS = [1, 3, 4, 7, 16, 18, 20, 87];

describe("the kernels on columns are what plain loops in float32 are, to the bit", () => {
  const random = generator(7);
  const filled = (view: Float32Array): Float32Array => (view.set(gaussians(view.length, random)), view.slice());

  for (const rows of ROWS) {
    it(`of ${String(rows)} rows`, () => {
      const columns = 6;
      const size = columns * rows;
      const workspace = columnWorkspaces.take();
      const { kernels } = workspace;
      const at = workspace.views({ gradient: size, integers: size, change: size, products: size, grids: 4 * rows, inside: columns * columns, steps: columns, noises: columns, sums: rows, behind: 4 });
      const behind = filled(at.behind);
      const [gradient, integers, change, products, grids, inside, steps, noises] =
        [at.gradient, at.integers, at.change, at.products, at.grids, at.inside, at.steps, at.noises].map(filled);
      for (let r = 0; r < rows; r++) [grids[2 * rows + r], grids[3 * rows + r]] = [-2, 1];
      // Halves go to the even one.
      [integers[0], steps[0], noises[0]] = [0.5, 0, 0];
      [at.grids, at.integers, at.steps, at.noises].forEach((view, i) => { view.set([grids, integers, steps, noises][i]); });
      const [stride, width] = [4 * rows, 4 * columns];

      kernels.move(at.gradient.byteOffset, at.integers.byteOffset, at.change.byteOffset, at.grids.byteOffset, at.inside.byteOffset, at.steps.byteOffset, at.noises.byteOffset, width, stride);
      const before = gradient.slice();
      for (let r = 0; r < rows; r++) {
        for (let j = 0; j < columns; j++) {
          let g = gradient[j * rows + r];
          for (let i = 0; i < j; i++) g = f(g - f(inside[j * columns + i] * change[i * rows + r]));
          const old = integers[j * rows + r];
          const moved = roundHalfEven(f(f(old + f(f(g * steps[j]) * grids[rows + r])) + noises[j]));
          const q = Math.max(-2, Math.min(1, moved));
          integers[j * rows + r] = q;
          change[j * rows + r] = f(grids[r] * f(q - old));
        }
      }
      expect([at.integers, at.change, at.gradient]).toEqual([integers, change, before]);
      expect(at.integers[0]).toBe(0);

      kernels.dot(at.sums.byteOffset, at.integers.byteOffset, at.gradient.byteOffset, columns, stride);
      const sums = Float32Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_c, j) => f(integers[j * rows + r] * gradient[j * rows + r])).reduce((a, b) => f(a + b), 0));
      expect(at.sums).toEqual(sums);

      kernels.stretch(at.change.byteOffset, at.gradient.byteOffset, at.integers.byteOffset, at.products.byteOffset, at.grids.byteOffset, at.steps.byteOffset, columns, stride);
      for (let j = 0; j < columns; j++) {
        for (let r = 0, i = j * rows; r < rows; r++, i++) {
          change[i] = f(grids[r] * integers[i]) + grids[rows + r];
          gradient[i] = f(gradient[i] - f(grids[r] * products[i])) - f(grids[rows + r] * steps[j]);
        }
      }
      expect([at.change, at.gradient]).toEqual([change, gradient]);

      kernels.add(at.change.byteOffset, at.products.byteOffset, 4 * size);
      expect(at.change).toEqual(change.map((value, i) => value + products[i]));
      expect(at.behind).toEqual(behind);
      columnWorkspaces.give(workspace);
    });
  }

  it.each(ROWS)("round a panel in the middle of a block, of %i rows", (rows) => {
    const [columns, width, first] = [5, 9, 3];
    const size = columns * rows;
    const workspace = columnWorkspaces.take();
    const at = workspace.views({ w: size, errors: size, codes: size, grids: 4 * rows, factor: width * width, inverses: columns });
    const [w, grids, factor, inverses] = [at.w, at.grids, at.factor, at.inverses].map(filled);
    const errors = new Float32Array(size);
    const codes = new Float32Array(size);
    for (let r = 0; r < rows; r++) [grids[r], grids[rows + r], grids[2 * rows + r]] = [f(0.1 + Math.abs(grids[r])), -3, 4];
    at.grids.set(grids);
    const corner = at.factor.byteOffset + 4 * first * (width + 1);
    workspace.kernels.round(at.w.byteOffset, at.errors.byteOffset, at.codes.byteOffset, at.grids.byteOffset, corner, at.inverses.byteOffset, 4 * columns, 4 * width, 4 * rows);
    for (let r = 0; r < rows; r++) {
      for (let j = 0; j < columns; j++) {
        let x = w[j * rows + r];
        for (let i = 0; i < j; i++) x = f(x - f(factor[(first + i) * width + first + j] * errors[i * rows + r]));
        const q = Math.max(-3, Math.min(4, roundHalfEven(f(f(x - grids[3 * rows + r]) / grids[r]))));
        w[j * rows + r] = f(grids[r] * q) + grids[3 * rows + r];
        errors[j * rows + r] = f(x - w[j * rows + r]) * inverses[j];
        codes[j * rows + r] = q + 3;
      }
    }
    expect([at.w, at.errors, at.codes]).toEqual([w, errors, codes]);
    columnWorkspaces.give(workspace);
  });

  it("have memory that grows, and is used again", () => {
    const workspace = columnWorkspaces.take();
    const { a } = workspace.views({ a: 3 });
    const { b, c } = workspace.views({ b: 1e6, c: 2 });
    expect([a.length, b.length, c.length, c.byteOffset]).toEqual([0, 1e6, 2, 4e6]);
    columnWorkspaces.give(workspace);
    const again = columnWorkspaces.take();
    expect(again).toBe(workspace);
    expect(columnWorkspaces.take()).not.toBe(again);
  });
});
