import { expect, it } from "vitest";
import { residentOf, type Coefficients } from "#src/engine/resident.js";
import { plainLinearAlgebra } from "./plain-linear-algebra.js";
import { random, relativeError } from "./random.js";

const COLUMNS = 3;

/** What `subtract` says, at once and row by row. */
function subtracted(c: Float64Array, { n, matrix, diagonal }: Coefficients, first: number, e: Float32Array, from: number): void {
  for (let i = 0; i < e.length; i++) {
    const k = first + Math.floor(i / COLUMNS);
    for (let p = from; p < n; p++) c[p * COLUMNS + (i % COLUMNS)] -= (p === k && diagonal ? diagonal[k] : matrix[k * n + p]) * e[i];
  }
}

it.each([[5, false], [130, false], [130, true], [300, true]])("a matrix of %i rows in memory is brought up to date whenever it is looked at (symmetric: %o)", async (n, symmetric) => {
  const square = random(n * n, 1);
  const matrix = symmetric ? square.map((_, i) => square[Math.min(Math.floor(i / n), i % n) * n + Math.max(Math.floor(i / n), i % n)]) : square;
  const r: Coefficients = { n, matrix, key: "r", symmetric, ...(symmetric && { diagonal: Float64Array.from({ length: n }, (_, j) => j / n) }) };
  const c = random(n * COLUMNS, 2);
  const expected = Float64Array.from(c);
  const resident = residentOf(plainLinearAlgebra, c, r);
  const third = Math.floor(n / 3);
  // Neighbours and others, the same ones twice before anybody looks, and some that not all rows are to have.
  const steps: readonly (readonly [first: number, count: number, look?: readonly [from: number, to: number]])[] = [
    [0, third, [third, 2 * third]], [third, third], [1, 2], [2 * third, n - 2 * third, [0, third]], [0, n], [0, 1, [third, n]],
  ];
  for (const [step, [first, count, look]] of steps.entries()) {
    const e = random(count * COLUMNS, 3 + step);
    subtracted(expected, r, first, e, 0);
    await resident.subtract(first, e, 0);
    e.fill(NaN);
    if (look === undefined) continue;
    await resident.fetch(...look);
    const [from, to] = look.map((row) => row * COLUMNS);
    expect(relativeError(c.subarray(from, to), expected.subarray(from, to))).toBeLessThan(1e-6);
  }
  for (const from of [third, n - 1]) {
    const e = random(COLUMNS, 20 + from);
    subtracted(expected, r, 0, e, from);
    await resident.subtract(0, e, from);
  }
  await resident.fetch(third, n);
  expect(relativeError(c.subarray(third * COLUMNS), expected.subarray(third * COLUMNS))).toBeLessThan(1e-6);
  await resident.release();
});
