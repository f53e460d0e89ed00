import type { LinearAlgebra } from "../engine/engine.js";
import { residentOf, type Resident } from "../engine/resident.js";
import type { Workspace } from "../wasm/workspace.js";
import { columnWorkspaces, type COLUMN_KERNELS } from "./column-kernels.js";
import type { PreparedHessian } from "./hessian.js";
import { Metric } from "./metric.js";
import { OrderedGrids } from "./ordered-grids.js";
import { copyRows, emptyRows, type RoundedRows } from "./rounded.js";
import type { QuantScheme } from "./scheme.js";
import { BLOCK, PANEL } from "./sweep.js";
import { transposed, untranspose } from "./transpose.js";

/** Sweeps after which the gradients, kept up to date in float32, are computed anew. */
const RENEW = 32;
/** Scales and offsets are fitted in one sweep of so many: in every one that is a fifth of the work, and after 4 … 16 sweeps the loss is the same within 0.2 %, with offsets 0.5 %. */
const FIT = 3;
/** The first sweep's noise in steps of the grid, where sweeps are enough for it to die away; its square falls evenly, to 0 in the last. */
const NOISE = 0.12;
const ENOUGH_SWEEPS = 8;

/**
 * Descends from what GPTQ found towards the least tr(Δ(H + λI)Δᵀ), Δ = weight − dequantized: sweep by sweep each code in turn takes the value that is
 * best with all others as they are; in every third sweep each group's scale, and its offset if it has one, are first fitted to its codes by least squares.
 * With G = Δ(H + λI) that is the integer next to (ŵ_j − o + G_j / H_jj) / s. A little noise before rounding, less with every sweep,
 * keeps it from the first local minimum (simulated annealing); the more sweeps, the deeper it comes.
 * No row ends with more loss than it came with.
 * @param weight [rows, hessian.n], finite; weights of dead inputs are taken as 0
 * @param start what `gptq` made of it; left as it is
 * @returns with `loss`, as `gptq` does
 */
export async function refine(
  la: LinearAlgebra, weight: Float32Array, rows: number, scheme: QuantScheme, hessian: PreparedHessian,
  start: RoundedRows & { readonly loss: number }, sweeps: number,
): Promise<RoundedRows & { readonly loss: number }> {
  if (sweeps === 0) return start;
  const descent = new Descent(la, weight, rows, scheme, hessian, start);
  const before = await descent.renew();
  const random = noiseOf();
  const noise = NOISE * Math.min(1, sweeps / ENOUGH_SWEEPS);
  for (let sweep = 0; sweep < sweeps; sweep++) {
    if (sweep > 0 && sweep % RENEW === 0) await descent.renew();
    // How many sweeps there are must not depend on the rows that happen to be done together.
    await descent.sweep(sweep % FIT === 0, sweeps === 1 ? 0 : noise * Math.sqrt(1 - sweep / (sweeps - 1)), random);
  }
  return descent.finish(before);
}

/** Numbers of variance 1/4 around 0: always the same, one for each column of each sweep and for all rows, whose problems are their own. */
function noiseOf(): () => number {
  let state = 12345;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.sqrt(3) * (state / 2 ** 32 - 0.5);
  };
}

type Views = ReturnType<typeof viewsOf>;

/** What a descent's kernels work on, in the memory of its workspace; for the group that is looked at but `integers` and `change`. */
function viewsOf(workspace: Workspace<keyof typeof COLUMN_KERNELS>, n: number, rows: number, { groupSize, offsets }: QuantScheme) {
  const ofGroup = groupSize * rows;
  return workspace.views({
    // Codes less zero points [n, rows], and by how much the weights of a block have grown [block, rows].
    integers: n * rows, change: Math.min(blockOf(groupSize), n) * rows,
    // [groupSize, rows]: the gradient; by how much weights grow as grids are fitted; H·c; ones, where there are offsets.
    own: ofGroup, growth: ofGroup, products: ofGroup, ones: offsets === undefined ? 0 : ofGroup,
    // [4, rows] of `move`, [2, rows] of `stretch`, and the first four of `Parabola` [4, rows].
    grids: 4 * rows, moves: 2 * rows, parabolas: 4 * rows,
    // Of a panel: its part of the metric, and 1 over its diagonal, and the noise.
    inside: PANEL * PANEL, steps: PANEL, noises: PANEL,
    // H·1 [groupSize].
    lifts: groupSize,
  });
}

/** The state of a descent. As in `gptq` a column is a contiguous run of all rows, and columns stand in the Hessian's order. */
class Descent {
  readonly #la: LinearAlgebra;
  readonly #rows: number;
  readonly #scheme: QuantScheme;
  readonly #hessian: PreparedHessian;
  readonly #metric: Metric;
  /** The weights [n, rows]. */
  readonly #target: Float32Array<ArrayBuffer>;
  /** G [n, rows], where updates of all of it are made, and where a block of it is looked at. */
  readonly #gradient: Float32Array<ArrayBuffer>;
  #updated: Resident | undefined;
  readonly #grids: OrderedGrids;
  readonly #start: RoundedRows;
  readonly #workspace: Workspace<keyof typeof COLUMN_KERNELS> = columnWorkspaces.take();
  readonly #at: Views;

  constructor(la: LinearAlgebra, weight: Float32Array, rows: number, scheme: QuantScheme, hessian: PreparedHessian, start: RoundedRows) {
    const { n, permutation } = hessian;
    this.#la = la;
    this.#rows = rows;
    this.#scheme = scheme;
    this.#hessian = hessian;
    this.#metric = new Metric(hessian, la.resident === undefined);
    this.#target = transposed(weight, rows, permutation);
    for (let p = 0; p < n; p++) if (this.#metric.dead[p]) this.#target.fill(0, p * rows, (p + 1) * rows);
    this.#gradient = new Float32Array(n * rows);
    this.#grids = new OrderedGrids(start, rows, scheme, hessian);
    this.#start = start;
    this.#at = viewsOf(this.#workspace, n, rows, scheme);
    this.#at.ones.fill(1);
    this.#at.lifts.fill(0);
    this.#at.parabolas.fill(0);
    const { integers } = this.#at;
    integers.set(transposed(Float32Array.from(start.codes), rows, permutation));
    for (let p = 0; p < n; p++) {
      const k = Math.floor(p / scheme.groupSize) * rows;
      for (let r = 0; r < rows; r++) integers[p * rows + r] += this.#grids.lows[k + r];
    }
  }

  /** Computes G = Δ(H + λI) from the codes. Returns the loss of each row. */
  async renew(): Promise<Float64Array> {
    const n = this.#hessian.n;
    await this.#updated?.release();
    this.#gradient.fill(0);
    this.#updated = residentOf(this.#la, this.#gradient, this.#metric.coefficients);
    const dequantized = this.#dequantized();
    // −Δ: it is subtracted.
    await this.#spread(this.#updated, dequantized.map((value, i) => value - this.#target[i]), 0, n);
    return this.#losses(dequantized);
  }

  /** What the codes stand for [n, rows]. */
  #dequantized(): Float32Array<ArrayBuffer> {
    const rows = this.#rows;
    const { n } = this.#hessian;
    const { scales, offsets } = this.#grids;
    const { integers } = this.#at;
    const values = new Float32Array(n * rows);
    for (let p = 0, at = 0; p < n; p++) {
      const k = Math.floor(p / this.#scheme.groupSize) * rows;
      for (let r = 0; r < rows; r++, at++) values[at] = scales[k + r] * integers[at] + offsets[k + r];
    }
    return values;
  }

  /** tr(ΔG) of each row, by the gradient as it is. */
  async #losses(dequantized: Float32Array): Promise<Float64Array> {
    await this.#updated!.fetch(0, this.#hessian.n);
    const losses = new Float64Array(this.#rows);
    for (let at = 0; at < dequantized.length; ) for (let r = 0; r < this.#rows; r++, at++) losses[r] = losses[r] + (this.#target[at] - dequantized[at]) * this.#gradient[at];
    return losses;
  }

  /** G −= (H + λI)[:, from … to] · change [to − from, rows]. */
  async #spread(updated: Resident, change: Float32Array, from: number, to: number): Promise<void> {
    const rows = this.#rows;
    for (let start = from, end; start < to; start = end) {
      end = Math.min(start + BLOCK, to);
      await updated.subtract(start, change.subarray((start - from) * rows, (end - from) * rows), 0);
    }
  }

  /**
   * One sweep over all groups.
   * @param fit whether their scales and offsets are fitted, or their codes alone
   * @param noise of a channel of mean curvature, in steps; as thermal noise it falls with the curvature's root
   */
  async sweep(fit: boolean, noise: number, random: () => number): Promise<void> {
    const { n } = this.#hessian;
    const size = this.#scheme.groupSize;
    const rows = this.#rows;
    const { change, own: gradient, growth } = this.#at;
    for (let start = 0, end; start < n; start = end) {
      end = Math.min(start + blockOf(size), n);
      await this.#updated!.fetch(start, end);
      for (let at = start; at < end; at += size) {
        gradient.set(this.#gradient.subarray(at * rows, (at + size) * rows));
        await this.#pull(gradient, at, at + size, change, start, at);
        const own = change.subarray((at - start) * rows, (at - start + size) * rows);
        if (fit) await this.#fitGrids(at / size);
        await this.#group(at / size, own, noise, random);
        if (fit) this.#workspace.kernels.add(own.byteOffset, growth.byteOffset, 4 * own.length);
      }
      await this.#spread(this.#updated!, change, start, end);
    }
  }

  /** gradient [to − from, rows] −= (H + λI)[from … to, first … last] · change, of which the first row belongs to column `first`. */
  async #pull(gradient: Float32Array, from: number, to: number, change: Float32Array, first: number, last: number): Promise<void> {
    if (first === last) return;
    await this.#la.gemm({
      m: to - from, n: this.#rows, k: last - first, transA: true, alpha: -1, beta: 1,
      a: this.#metric.part(first, last, from, to), b: change.subarray(0, (last - first) * this.#rows), c: gradient,
    });
  }

  /**
   * Fits the codes of group k. The gradient of its columns lies in `own`, and is used up.
   * @param change comes back as by how much its weights have grown [groupSize, rows]
   */
  async #group(k: number, change: Float32Array<ArrayBuffer>, noise: number, random: () => number): Promise<void> {
    const rows = this.#rows;
    const size = this.#scheme.groupSize;
    const first = k * size;
    const { integers, own: gradient, grids, inside, steps, noises } = this.#at;
    const { kernels } = this.#workspace;
    const { dead, meanCurve } = this.#metric;

    const { scales, lows } = this.#grids;
    const span = 2 ** this.#scheme.bits - 1;
    for (let r = 0; r < rows; r++) {
      const [scale, low] = [scales[k * rows + r], lows[k * rows + r]];
      grids[r] = scale;
      grids[rows + r] = 1 / scale;
      grids[2 * rows + r] = low;
      grids[3 * rows + r] = low + span;
    }
    for (let from = 0, to; from < size; from = to) {
      to = Math.min(from + PANEL, size);
      const columns = to - from;
      await this.#pull(gradient.subarray(from * rows, to * rows), first + from, first + to, change, first, first + from);
      inside.set(this.#metric.part(first + from, first + to, first + from, first + to));
      for (let j = 0; j < columns; j++) {
        const curve = inside[j * columns + j];
        // The integers of dead inputs stay.
        const alive = !dead[first + from + j];
        steps[j] = alive ? 1 / curve : 0;
        noises[j] = alive ? noise * Math.sqrt(meanCurve / curve) * random() : 0;
      }
      const ofPanel = (matrix: Float32Array, column: number): number => matrix.byteOffset + 4 * column * rows;
      kernels.move(
        ofPanel(gradient, from), ofPanel(integers, first + from), ofPanel(change, from), grids.byteOffset, inside.byteOffset, steps.byteOffset, noises.byteOffset, 4 * columns, 4 * rows,
      );
    }
  }

  /**
   * Moves the scale of group k in each row, and its offset if it has one, to where the loss is least, as far as they can be stored, where it is less then.
   * Brings the gradient of its columns up to date, and leaves in `growth` by how much the weights have grown.
   */
  async #fitGrids(k: number): Promise<void> {
    const rows = this.#rows;
    const size = this.#scheme.groupSize;
    const { integers: all, own: gradient, growth, products, ones, moves, parabolas, lifts } = this.#at;
    const { kernels } = this.#workspace;
    const integers = all.subarray(k * size * rows, (k + 1) * size * rows);
    const metric = this.#metric.part(k * size, (k + 1) * size, k * size, (k + 1) * size);
    // H·c, and H·1: what a scale and an offset do to the gradient.
    await this.#la.gemm({ m: size, n: rows, k: size, a: metric, b: integers, c: products });
    const dot = (part: number, x: Float32Array, y: Float32Array): void => { kernels.dot(parabolas.byteOffset + 4 * part * rows, x.byteOffset, y.byteOffset, size, 4 * rows); };
    dot(0, integers, gradient);
    dot(1, integers, products);
    // Only where there are offsets is it asked what they do.
    const hasOffsets = this.#scheme.offsets !== undefined;
    if (hasOffsets) {
      dot(2, ones, gradient);
      dot(3, ones, products);
      for (let j = 0; j < size; j++) lifts[j] = total(metric.subarray(j * size, (j + 1) * size));
    }
    const flat = hasOffsets ? total(lifts) : 0;
    for (let r = 0; r < rows; r++) {
      const { stretch, shift } = this.#grids.fit(k, r, { slope: parabolas[r], curve: parabolas[rows + r], lift: parabolas[2 * rows + r], cross: parabolas[3 * rows + r], flat });
      moves[r] = stretch;
      moves[rows + r] = shift;
    }
    kernels.stretch(growth.byteOffset, gradient.byteOffset, integers.byteOffset, products.byteOffset, moves.byteOffset, lifts.byteOffset, size, 4 * rows);
  }

  /** What was found, but the rows that were better before (`before`: their losses). */
  async finish(before: Float64Array): Promise<RoundedRows & { readonly loss: number }> {
    const rows = this.#rows;
    const { n, permutation } = this.#hessian;
    const out = emptyRows(rows, n, this.#scheme);
    const dequantized = this.#dequantized();
    const after = await this.#losses(dequantized);
    await this.#updated!.release();
    const codes = new Uint8Array(n * rows);
    for (let p = 0, at = 0; p < n; p++) {
      const k = Math.floor(p / this.#scheme.groupSize) * rows;
      for (let r = 0; r < rows; r++, at++) codes[at] = this.#at.integers[at] - this.#grids.lows[k + r];
    }
    columnWorkspaces.give(this.#workspace);
    this.#grids.store(out);
    untranspose(codes, out.codes, rows, permutation);
    untranspose(dequantized, out.dequantized, rows, permutation);
    for (let r = 0; r < rows; r++) {
      if (after[r] <= before[r]) continue;
      after[r] = before[r]!;
      copyRows(this.#start, r, 1, out, r, n);
    }
    return { ...out, loss: total(after) };
  }
}

/** Columns between two updates of the whole gradient: whole groups. */
const blockOf = (groupSize: number): number => Math.max(groupSize, BLOCK - (BLOCK % groupSize));

const total = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0);
