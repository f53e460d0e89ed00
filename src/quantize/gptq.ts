import type { LinearAlgebra } from "../engine/engine.js";
import { partOf, residentOf } from "../engine/resident.js";
import { columnWorkspaces } from "./column-kernels.js";
import type { PreparedHessian } from "./hessian.js";
import { placeOf } from "./order.js";
import { emptyRows, type RoundedRows } from "./rounded.js";
import type { QuantScheme } from "./scheme.js";
import { GridChooser } from "./search.js";
import { chooseSteps, gridUnit, storeSteps, type Steps } from "./super-block.js";
import { BLOCK, PANEL } from "./sweep.js";
import { transposed, untranspose } from "./transpose.js";

/** Rows whose grids are chosen together, so that columns are read in runs. */
const TILE = 16;

/**
 * GPTQ (Frantar et al. 2023, arXiv 2210.17323): columns are rounded in the Hessian's order, and each one's error is spread over
 * those that follow, so that tr(Δ(H + λI)Δᵀ) grows least. A group's grid is chosen when its first column is reached, from the
 * weights as updated by all columns before it, by error in the diagonal of H + λI; the steps of a super-block when its first column is reached.
 * Rows do not influence each other: any slab of a matrix may be given.
 * @param weight [rows, hessian.n], finite; weights of dead inputs are taken as 0
 * @returns with `loss`: tr(Δ(H + λI)Δᵀ), Δ against the weights so taken; H a token's mean
 */
export async function gptq(
  la: LinearAlgebra, weight: Float32Array, rows: number, scheme: QuantScheme, search: boolean, hessian: PreparedHessian,
): Promise<RoundedRows & { readonly loss: number }> {
  const { n, factor, permutation, diagonal } = hessian;
  const size = scheme.groupSize;
  const unit = gridUnit(scheme);
  const out = emptyRows(rows, n, scheme);

  // Transposed and in order, a column of the paper is a contiguous run: w[p · rows + r].
  const w = transposed(weight, rows, permutation);
  const deadChannels = new Set(hessian.dead);
  for (let p = 0; p < n; p++) if (deadChannels.has(permutation[p])) w.fill(0, p * rows, (p + 1) * rows);
  const codes = new Uint8Array(n * rows);
  const importance = Float64Array.from(permutation, (channel) => diagonal[channel]);
  const workspace = columnWorkspaces.take();
  const { kernels } = workspace;
  const at = workspace.views({
    panel: PANEL * rows, codes: PANEL * rows, errors: Math.min(BLOCK, n) * rows, grids: 4 * rows, losses: rows, inside: Math.min(BLOCK, n) ** 2, inverses: PANEL,
  });
  const { errors } = at;
  const grids = new GroupGrids(scheme, search, rows, out, at.grids);

  let loss = 0;
  const coefficients = { n, matrix: factor, key: `${hessian.id} factor` };
  const rest = residentOf(la, w, coefficients);
  for (let start = 0, end; start < n; start = end) {
    end = blockEnd(start, size, unit, n);
    // A group, or super-block, that begins here is looked at whole.
    await rest.fetch(start, Math.max(end, ...[unit, size].filter((length) => start % length === 0).map((length) => start + length)));
    const width = end - start;
    at.inside.set(partOf(coefficients, start, end, start, end));
    for (let from = start, to; from < end; from = to) {
      if (from % unit === 0) grids.chooseSteps(w, from, placeOf(hessian, from, unit));
      if (from % size === 0) grids.choose(w, from, importance, placeOf(hessian, from, size));
      to = Math.min(end, from + PANEL, from - (from % size) + size);
      const columns = to - from;
      const first = from - start;
      for (let j = 0; j < columns; j++) at.inverses[j] = 1 / at.inside[(first + j) * (width + 1)];
      at.panel.set(w.subarray(from * rows, to * rows));
      const ofPanel = errors.subarray(first * rows, (first + columns) * rows);
      kernels.round(at.panel.byteOffset, ofPanel.byteOffset, at.codes.byteOffset, at.grids.byteOffset, at.inside.byteOffset + 4 * first * (width + 1), at.inverses.byteOffset, 4 * columns, 4 * width, 4 * rows);
      w.set(at.panel.subarray(0, columns * rows), from * rows);
      codes.set(at.codes.subarray(0, columns * rows), from * rows);
      kernels.dot(at.losses.byteOffset, ofPanel.byteOffset, ofPanel.byteOffset, columns, 4 * rows);
      for (let r = 0; r < rows; r++) loss += at.losses[r];
      if (to < end) {
        await la.gemm({
          m: end - to, n: rows, k: columns, transA: true, alpha: -1, beta: 1, a: partOf(coefficients, from, to, to, end), b: ofPanel, c: w.subarray(to * rows, end * rows),
        });
      }
    }
    if (end < n) await rest.subtract(start, errors.subarray(0, (end - start) * rows), end);
  }
  await rest.release();
  columnWorkspaces.give(workspace);

  untranspose(w, out.dequantized, rows, permutation);
  untranspose(codes, out.codes, rows, permutation);
  return { ...out, loss };
}

/**
 * Where a block that begins at `start` ends: `BLOCK` columns on or less, so that a group, and a super-block (`unit`), lies whole in one block or begins one.
 * Then all columns of a group have had all earlier updates when its grid is chosen.
 */
function blockEnd(start: number, groupSize: number, unit: number, n: number): number {
  const next = (length: number): number => start - (start % length) + length;
  if (unit <= BLOCK) return Math.min(start + BLOCK - (BLOCK % unit), n);
  if (groupSize <= BLOCK) return Math.min(start + BLOCK - (BLOCK % groupSize), next(unit));
  return Math.min(start + BLOCK, next(groupSize));
}

/** Chooses the grids of one group over all rows of the slab. They go into the result as they are chosen. */
class GroupGrids {
  readonly #scheme: QuantScheme;
  readonly #rows: number;
  readonly #out: RoundedRows;
  readonly #chooser: GridChooser;
  readonly #chosen: Float32Array;
  /** By row, of the super-block under way. */
  readonly #steps: Steps[] = [];

  /** @param chosen where they go as the kernel wants them: scales, lows, highs, offsets [4, rows] */
  constructor(scheme: QuantScheme, search: boolean, rows: number, out: RoundedRows, chosen: Float32Array) {
    this.#scheme = scheme;
    this.#rows = rows;
    this.#out = out;
    this.#chooser = new GridChooser(scheme, search);
    this.#chosen = chosen;
  }

  /** Chooses the steps of super-block `place`, where there are any, whose first column stands at position p. */
  chooseSteps(w: Float32Array, p: number, place: number): void {
    const { steps } = this.#out;
    if (steps === undefined) return;
    const superBlocks = steps.length / (2 * this.#rows);
    for (const [r, weights] of this.#gathered(w, p, gridUnit(this.#scheme))) {
      this.#steps[r] = chooseSteps(weights, this.#scheme);
      storeSteps(steps, r * superBlocks + place, this.#steps[r]);
    }
  }

  /** Chooses for group `place`, whose first column stands at position p. */
  choose(w: Float32Array, p: number, importance: Float64Array, place: number): void {
    const chooser = this.#chooser;
    const { scales, zeros, offsets } = this.#out;
    const size = this.#scheme.groupSize;
    const groups = scales.length / this.#rows;
    chooser.weigh(importance.subarray(p, p + size));
    for (const [r, weights] of this.#gathered(w, p, size)) {
      if (this.#steps.length > 0) chooser.steps = this.#steps[r];
      chooser.choose(weights);
      const low = 0 - chooser.zero; // −0 would show in the weights
      this.#chosen[r] = chooser.scale;
      this.#chosen[this.#rows + r] = low;
      this.#chosen[2 * this.#rows + r] = low + 2 ** this.#scheme.bits - 1;
      this.#chosen[3 * this.#rows + r] = chooser.offset;
      scales[r * groups + place] = chooser.scale;
      zeros[r * groups + place] = chooser.zero;
      if (offsets) offsets[r * groups + place] = chooser.offset;
    }
  }

  /** Each row, and its weights at positions p … p + length. */
  *#gathered(w: Float32Array, p: number, length: number): Generator<readonly [row: number, weights: Float64Array]> {
    const tile = Array.from({ length: TILE }, () => new Float64Array(length));
    for (let r0 = 0; r0 < this.#rows; r0 += TILE) {
      const count = Math.min(TILE, this.#rows - r0);
      for (let j = 0; j < length; j++) {
        const column = (p + j) * this.#rows + r0;
        for (let i = 0; i < count; i++) tile[i][j] = w[column + i]!;
      }
      for (let i = 0; i < count; i++) yield [r0 + i, tile[i]];
    }
  }
}
