import type { LinearAlgebra } from "./engine.js";

// Wide enough for the products to run near the engine's best, narrow enough for the plain loops on the diagonal not to matter.
const BLOCK = 128;

/** A column of blocks of a lower triangle: rows `start` and below, row-major. */
interface Panel {
  readonly start: number;
  readonly width: number;
  readonly data: Float64Array;
  /** Inverse of the triangle on top [width, width]. */
  readonly topInverse: Float64Array;
}

/**
 * The upper triangular R with H⁻¹ = RᵀR, which GPTQ works along.
 *
 * Flipped end for end, H factors as LLᵀ; flipped back, L⁻¹ is R. That is half the work of factoring, inverting and factoring
 * again. In doubles: single precision loses two digits at small damping.
 * @param h symmetric [n, n], of which the upper half is read; it is overwritten, and returned as R
 * @returns R [n, n], zero below the diagonal; undefined when H is not positive definite or not finite (h then holds no more than a start)
 */
export async function inverseCholesky(la: LinearAlgebra, h: Float64Array, n: number): Promise<Float64Array | undefined> {
  if (h.length !== n * n) throw new RangeError(`A matrix of ${h.length} values is not ${n} × ${n}.`);
  // Reversing a row-major matrix flips both of its axes.
  const panels = await factor(la, h.reverse(), n);
  if (panels === undefined) return undefined;
  h.fill(0);
  for (let j = 0; j < panels.length; j++) {
    const { start, width } = panels[j];
    const column = await inverseColumn(la, panels.slice(j), n);
    for (let row = start; row < n; row++) h.set(column.subarray((row - start) * width, (row - start + 1) * width), row * n + start);
  }
  return h.reverse();
}

/** Cholesky factor of the lower half of a, panel by panel; undefined where a pivot is not positive. */
async function factor(la: LinearAlgebra, a: Float64Array, n: number): Promise<Panel[] | undefined> {
  const panels: Panel[] = [];
  for (let start = 0; start < n; start += BLOCK) {
    const width = Math.min(BLOCK, n - start);
    const rows = n - start;
    const work = new Float64Array(rows * width);
    for (let i = 0; i < rows; i++) work.set(a.subarray((start + i) * n + start, (start + i) * n + start + width), i * width);
    for (const left of panels) {
      const beside = left.data.subarray((start - left.start) * left.width);
      await la.gemm({ m: rows, n: width, k: left.width, a: beside, b: beside.subarray(0, width * left.width), c: work, transB: true, alpha: -1, beta: 1 });
    }
    if (!factorTop(work, width)) return undefined;
    const topInverse = invertTriangle(work, width);
    const data = new Float64Array(rows * width);
    data.set(work.subarray(0, width * width));
    if (rows > width) {
      await la.gemm({
        m: rows - width, n: width, k: width, a: work.subarray(width * width), b: topInverse, c: data.subarray(width * width), transB: true,
      });
    }
    panels.push({ start, width, data, topInverse });
  }
  return panels;
}

/** The first block column of the inverse of the triangle that `panels` make up. */
async function inverseColumn(la: LinearAlgebra, panels: readonly Panel[], n: number): Promise<Float64Array> {
  const { start, width } = panels[0];
  const column = new Float64Array((n - start) * width);
  for (let i = 0; i < width; i++) column[i * width + i] = 1;
  const solved = new Float64Array(BLOCK * width);
  for (const panel of panels) {
    const top = column.subarray((panel.start - start) * width, (panel.start - start + panel.width) * width);
    const x = solved.subarray(0, top.length);
    await la.gemm({ m: panel.width, n: width, k: panel.width, a: panel.topInverse, b: top, c: x });
    top.set(x);
    const below = n - panel.start - panel.width;
    if (below > 0) {
      await la.gemm({
        m: below, n: width, k: panel.width, a: panel.data.subarray(panel.width * panel.width), b: x,
        c: column.subarray((panel.start - start + panel.width) * width), alpha: -1, beta: 1,
      });
    }
  }
  return column;
}

/** Factors the leading [n, n] of a in place and clears its upper half; false when a pivot is not positive and finite. */
function factorTop(a: Float64Array, n: number): boolean {
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let sum = a[i * n + j];
      for (let k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
      if (i > j) a[i * n + j] = sum / a[j * n + j];
      else if (sum > 0 && sum < Infinity) a[j * n + j] = Math.sqrt(sum);
      else return false;
    }
    a.fill(0, j * n + j + 1, (j + 1) * n);
  }
  return true;
}

/** Inverse of the lower triangle that leads l [n, n]. */
function invertTriangle(l: Float64Array, n: number): Float64Array {
  const inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 1 : 0;
      for (let k = j; k < i; k++) sum -= l[i * n + k] * inverse[k * n + j];
      inverse[i * n + j] = sum / l[i * n + i];
    }
  }
  return inverse;
}
