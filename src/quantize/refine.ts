import type { LinearAlgebra } from "../engine/engine.js";
import { partOf, residentOf, type Coefficients, type Resident } from "../engine/resident.js";
import type { Workspace } from "../wasm/workspace.js";
import { columnWorkspaces, type COLUMN_KERNELS } from "./column-kernels.js";
import { heldScale, NO_OFFSET, storedOffset, storedScale } from "./grid.js";
import type { PreparedHessian } from "./hessian.js";
import { copyRows, emptyRows, type RoundedRows } from "./rounded.js";
import type { QuantScheme } from "./scheme.js";
import { gridUnit, steppedOffset, steppedScale, stepsAt, type Steps } from "./super-block.js";
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
  return descent.finish(start, before);
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
  /** [groups, rows], groups in the Hessian's order. */
  readonly #scales: Float64Array;
  readonly #lows: Float64Array;
  readonly #offsets: Float64Array;
  readonly #start: RoundedRows;
  readonly #workspace: Workspace<keyof typeof COLUMN_KERNELS> = columnWorkspaces.take();
  readonly #at: Views;

  constructor(la: LinearAlgebra, weight: Float32Array, rows: number, scheme: QuantScheme, hessian: PreparedHessian, start: RoundedRows) {
    const { n, permutation } = hessian;
    const groups = n / scheme.groupSize;
    this.#la = la;
    this.#rows = rows;
    this.#scheme = scheme;
    this.#hessian = hessian;
    this.#metric = new Metric(hessian, la.resident === undefined);
    this.#target = transposed(weight, rows, permutation);
    for (let p = 0; p < n; p++) if (this.#metric.dead[p]) this.#target.fill(0, p * rows, (p + 1) * rows);
    this.#gradient = new Float32Array(n * rows);
    this.#scales = new Float64Array(groups * rows);
    this.#lows = new Float64Array(groups * rows);
    this.#offsets = new Float64Array(groups * rows);
    this.#start = start;
    this.#at = viewsOf(this.#workspace, n, rows, scheme);
    this.#at.ones.fill(1);
    this.#at.lifts.fill(0);
    this.#at.parabolas.fill(0);
    for (let k = 0; k < groups; k++) {
      const group = this.#stored(k);
      for (let r = 0; r < rows; r++) {
        this.#scales[k * rows + r] = start.scales[r * groups + group]!;
        this.#lows[k * rows + r] = 0 - start.zeros[r * groups + group];
        this.#offsets[k * rows + r] = start.offsets?.[r * groups + group] ?? NO_OFFSET;
      }
    }
    const { integers } = this.#at;
    integers.set(transposed(Float32Array.from(start.codes), rows, permutation));
    for (let p = 0; p < n; p++) {
      const k = Math.floor(p / scheme.groupSize) * rows;
      for (let r = 0; r < rows; r++) integers[p * rows + r] += this.#lows[k + r];
    }
  }

  /** Where the group at position k is kept in the result. */
  #stored(k: number): number {
    const { order, permutation } = this.#hessian;
    return order === "act" ? k : Math.floor(permutation[k * this.#scheme.groupSize] / this.#scheme.groupSize);
  }

  /** Computes G = Δ(H + λI) from the codes. Returns the loss of each row. */
  async renew(): Promise<Float64Array> {
    const rows = this.#rows;
    const n = this.#hessian.n;
    const { integers } = this.#at;
    // −Δ: it is subtracted.
    const growth = new Float32Array(n * rows);
    for (let p = 0, i = 0; p < n; p++) {
      const k = Math.floor(p / this.#scheme.groupSize) * rows;
      for (let r = 0; r < rows; r++, i++) growth[i] = Math.fround(this.#scales[k + r] * integers[i] + this.#offsets[k + r]) - this.#target[i];
    }
    await this.#updated?.release();
    this.#gradient.fill(0);
    this.#updated = residentOf(this.#la, this.#gradient, this.#metric.coefficients);
    await this.#spread(this.#updated, growth, 0, n);
    await this.#updated.fetch(0, n);
    const losses = new Float64Array(rows);
    for (let p = 0, i = 0; p < n; p++) for (let r = 0; r < rows; r++, i++) losses[r] = losses[r] - growth[i] * this.#gradient[i];
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

    const span = 2 ** this.#scheme.bits - 1;
    for (let r = 0; r < rows; r++) {
      const [scale, low] = [this.#scales[k * rows + r], this.#lows[k * rows + r]];
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
      const at = k * rows + r;
      const fitted = this.#fit(k, r, { slope: parabolas[r], curve: parabolas[rows + r], lift: parabolas[2 * rows + r], cross: parabolas[3 * rows + r], flat });
      moves[r] = fitted === undefined ? 0 : fitted.scale - this.#scales[at];
      moves[rows + r] = fitted === undefined ? 0 : fitted.offset - this.#offsets[at];
      if (fitted === undefined) continue;
      this.#scales[at] = fitted.scale;
      this.#offsets[at] = fitted.offset;
    }
    kernels.stretch(growth.byteOffset, gradient.byteOffset, integers.byteOffset, products.byteOffset, moves.byteOffset, lifts.byteOffset, size, 4 * rows);
  }

  /** The scale and the offset of group k in row r that lose least, as far as they can be stored; undefined if they do not lose less than those there are. */
  #fit(k: number, r: number, { slope, curve, lift, cross, flat }: Parabola): { readonly scale: number; readonly offset: number } | undefined {
    if (!(curve > 0)) return undefined;
    const { scaleDtype, offsets: kind } = this.#scheme;
    const scale = this.#scales[k * this.#rows + r];
    const offset = this.#offsets[k * this.#rows + r];
    const steps = this.#stepsOf(k, r);
    const determinant = curve * flat - cross * cross;
    // Where all codes are alike, scale and offset do the same, and the offset is enough.
    const together = determinant > 1e-6 * curve * flat ? (slope * flat - lift * cross) / determinant : 0;
    const best = scale + (kind === undefined ? slope / curve : together);
    const stored = steps ? steppedScale(best, steps) : heldScale(storedScale(best, scaleDtype), -this.#lows[k * this.#rows + r], this.#scheme);
    const stretch = stored - scale;
    const beside = offset + (lift - stretch * cross) / flat;
    const storedBeside = kind === undefined ? offset : steps ? steppedOffset(beside, steps) : storedOffset(beside, scaleDtype);
    const shift = storedBeside - offset;
    const gain = stretch * (2 * slope - stretch * curve) + shift * (2 * lift - shift * flat) - 2 * stretch * shift * cross;
    return gain > 0 ? { scale: stored, offset: storedBeside } : undefined;
  }

  /** The steps of the super-block that group k lies in. */
  #stepsOf(k: number, r: number): Steps | undefined {
    const { steps } = this.#start;
    if (steps === undefined) return undefined;
    const unit = gridUnit(this.#scheme);
    return stepsAt(steps, Math.floor((r * this.#hessian.n + this.#stored(k) * this.#scheme.groupSize) / unit));
  }

  /** What was found, but the rows of `start` that were better before (`before`: their losses). */
  async finish(start: RoundedRows, before: Float64Array): Promise<RoundedRows & { readonly loss: number }> {
    const rows = this.#rows;
    const { n, permutation } = this.#hessian;
    const size = this.#scheme.groupSize;
    const groups = n / size;
    const after = await this.renew();
    await this.#updated!.release();
    const out = emptyRows(rows, n, this.#scheme);
    if (start.steps) out.steps?.set(start.steps);
    const codes = new Uint8Array(n * rows);
    const values = new Float32Array(n * rows);
    for (let k = 0; k < groups; k++) {
      const group = this.#stored(k);
      for (let r = 0; r < rows; r++) {
        out.scales[r * groups + group] = this.#scales[k * rows + r]!;
        out.zeros[r * groups + group] = 0 - this.#lows[k * rows + r];
        if (out.offsets) out.offsets[r * groups + group] = this.#offsets[k * rows + r]!;
      }
      for (let p = k * size; p < (k + 1) * size; p++) {
        for (let r = 0; r < rows; r++) {
          const q = this.#at.integers[p * rows + r];
          codes[p * rows + r] = q - this.#lows[k * rows + r];
          values[p * rows + r] = this.#scales[k * rows + r] * q + this.#offsets[k * rows + r];
        }
      }
    }
    untranspose(codes, out.codes, rows, permutation);
    untranspose(values, out.dequantized, rows, permutation);
    columnWorkspaces.give(this.#workspace);
    for (let r = 0; r < rows; r++) {
      if (after[r] <= before[r]) continue;
      after[r] = before[r]!;
      copyRows(start, r, 1, out, r, n);
    }
    return { ...out, loss: total(after) };
  }
}

/** Input channels up to which a thread keeps a copy of H of its own, of 16 MB at most: what threads share is slow to copy. */
const OWN_CHANNELS = 2048;

/** H + λI in the Hessian's order. */
class Metric {
  /** By position. */
  readonly dead: readonly boolean[];
  /** Of the diagonal. */
  readonly meanCurve: number;
  readonly coefficients: Coefficients;

  /** @param here no device is to have it: then it need not lie in shared memory */
  constructor({ id, n, matrix, permutation, diagonal, dead }: PreparedHessian, here: boolean) {
    this.coefficients = { n, matrix, symmetric: true, diagonal: Float64Array.from(permutation, (channel) => diagonal[channel]), key: `${id} metric` };
    if (here && n <= OWN_CHANNELS) this.coefficients = { n, matrix: partOf(this.coefficients, 0, n, 0, n), symmetric: true, key: id };
    this.meanCurve = diagonal.reduce((a, b) => a + b, 0) / n;
    const isDead = new Set(dead);
    this.dead = Array.from(permutation, (channel) => isDead.has(channel));
  }

  /** Rows r0 … r1 of columns c0 … c1, contiguous. */
  part(r0: number, r1: number, c0: number, c1: number): Float32Array<ArrayBuffer> {
    return partOf(this.coefficients, r0, r1, c0, c1);
  }
}

/**
 * How a row's loss depends on the scale and the offset of one group: less 2(slope · Δs + lift · Δo), and
 * curve · Δs² + 2 · cross · Δs·Δo + flat · Δo².
 */
interface Parabola {
  readonly slope: number;
  readonly curve: number;
  readonly lift: number;
  readonly cross: number;
  readonly flat: number;
}

/** Columns between two updates of the whole gradient: whole groups. */
const blockOf = (groupSize: number): number => Math.max(groupSize, BLOCK - (BLOCK % groupSize));

const total = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0);
