import type { LinearAlgebra } from "../engine/engine.js";
import { partOf, residentOf, type Coefficients, type Resident } from "../engine/resident.js";
import { heldScale, NO_OFFSET, storedOffset, storedScale } from "./grid.js";
import type { PreparedHessian } from "./hessian.js";
import { MAGIC } from "./rounding.js";
import { copyRows, emptyRows, type RoundedRows } from "./rounded.js";
import type { QuantScheme } from "./scheme.js";
import { gridUnit, steppedOffset, steppedScale, stepsAt, type Steps } from "./super-block.js";
import { BLOCK, dotColumns, PANEL, subtractColumns } from "./sweep.js";
import { transposed, untranspose } from "./transpose.js";

/** Sweeps after which the gradients, kept up to date in float32, are computed anew. */
const RENEW = 8;
/** The first sweep's noise in steps of the grid, where sweeps are enough for it to die away; its square falls evenly, to 0 in the last. */
const NOISE = 0.12;
const ENOUGH_SWEEPS = 8;

/**
 * Descends from what GPTQ found towards the least tr(Δ(H + λI)Δᵀ), Δ = weight − dequantized: sweep by sweep each group's scale, and
 * its offset if it has one, are fitted to its codes by least squares, and then each code in turn takes the value that is best with all others as they are.
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
    await descent.sweep(sweeps === 1 ? 0 : noise * Math.sqrt(1 - sweep / (sweeps - 1)), random);
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

/** The state of a descent. As in `gptq` a column is a contiguous run of all rows, and columns stand in the Hessian's order. */
class Descent {
  readonly #la: LinearAlgebra;
  readonly #rows: number;
  readonly #scheme: QuantScheme;
  readonly #hessian: PreparedHessian;
  readonly #metric: Metric;
  /** [n, rows]: the weights, and their codes less the zero points. */
  readonly #target: Float32Array<ArrayBuffer>;
  readonly #integers: Float32Array<ArrayBuffer>;
  /** G [n, rows], where updates of all of it are made, and where a block of it is looked at. */
  readonly #gradient: Float32Array<ArrayBuffer>;
  #updated: Resident | undefined;
  /** [groups, rows], groups in the Hessian's order. */
  readonly #scales: Float64Array;
  readonly #lows: Float64Array;
  readonly #offsets: Float64Array;
  readonly #start: RoundedRows;
  // [groupSize, rows], of the group that is looked at: used again and again, since memory is dear to get and to give back.
  readonly #own: Float32Array<ArrayBuffer>;
  readonly #growth: Float32Array<ArrayBuffer>;
  readonly #products: Float32Array<ArrayBuffer>;

  constructor(la: LinearAlgebra, weight: Float32Array, rows: number, scheme: QuantScheme, hessian: PreparedHessian, start: RoundedRows) {
    const { n, permutation } = hessian;
    const groups = n / scheme.groupSize;
    this.#la = la;
    this.#rows = rows;
    this.#scheme = scheme;
    this.#hessian = hessian;
    this.#metric = new Metric(hessian);
    this.#target = transposed(weight, rows, permutation);
    for (let p = 0; p < n; p++) if (this.#metric.dead[p]) this.#target.fill(0, p * rows, (p + 1) * rows);
    this.#gradient = new Float32Array(n * rows);
    this.#scales = new Float64Array(groups * rows);
    this.#lows = new Float64Array(groups * rows);
    this.#offsets = new Float64Array(groups * rows);
    this.#start = start;
    const ofGroup = (): Float32Array<ArrayBuffer> => new Float32Array(scheme.groupSize * rows);
    this.#own = ofGroup();
    this.#growth = ofGroup();
    this.#products = ofGroup();
    for (let k = 0; k < groups; k++) {
      const group = this.#stored(k);
      for (let r = 0; r < rows; r++) {
        this.#scales[k * rows + r] = start.scales[r * groups + group]!;
        this.#lows[k * rows + r] = 0 - start.zeros[r * groups + group];
        this.#offsets[k * rows + r] = start.offsets?.[r * groups + group] ?? NO_OFFSET;
      }
    }
    this.#integers = transposed(Float32Array.from(start.codes), rows, permutation);
    for (let p = 0; p < n; p++) {
      const k = Math.floor(p / scheme.groupSize) * rows;
      for (let r = 0; r < rows; r++) this.#integers[p * rows + r] += this.#lows[k + r];
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
    // −Δ: it is subtracted.
    const growth = this.#target.map((w) => -w);
    for (let p = 0; p < n; p++) {
      const k = Math.floor(p / this.#scheme.groupSize) * rows;
      for (let r = 0; r < rows; r++) growth[p * rows + r] += Math.fround(this.#scales[k + r] * this.#integers[p * rows + r] + this.#offsets[k + r]);
    }
    await this.#updated?.release();
    this.#gradient.fill(0);
    this.#updated = residentOf(this.#la, this.#gradient, this.#metric.coefficients);
    await this.#spread(this.#updated, growth, 0, n);
    await this.#updated.fetch(0, n);
    const losses = new Float64Array(rows);
    for (let p = 0; p < n; p++) for (let r = 0; r < rows; r++) losses[r] -= growth[p * rows + r] * this.#gradient[p * rows + r];
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
   * @param noise of a channel of mean curvature, in steps; as thermal noise it falls with the curvature's root
   */
  async sweep(noise: number, random: () => number): Promise<void> {
    const { n } = this.#hessian;
    const size = this.#scheme.groupSize;
    const rows = this.#rows;
    const block = Math.max(size, BLOCK - (BLOCK % size));
    const change = new Float32Array(Math.min(block, n) * rows);
    for (let start = 0, end; start < n; start = end) {
      end = Math.min(start + block, n);
      change.fill(0);
      await this.#updated!.fetch(start, end);
      for (let at = start; at < end; at += size) {
        const gradient = this.#own;
        gradient.set(this.#gradient.subarray(at * rows, (at + size) * rows));
        await this.#pull(gradient, at, at + size, change, start, at);
        await this.#group(at / size, gradient, change.subarray((at - start) * rows, (at - start + size) * rows), noise, random);
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
   * Fits the scales and offsets of group k, then its codes.
   * @param gradient G of its columns [groupSize, rows], used up
   * @param change comes back as by how much its weights have grown [groupSize, rows]; zero before
   */
  async #group(k: number, gradient: Float32Array, change: Float32Array, noise: number, random: () => number): Promise<void> {
    const rows = this.#rows;
    const size = this.#scheme.groupSize;
    const first = k * size;
    const integers = this.#integers.subarray(first * rows, (first + size) * rows);
    const scales = this.#scales.subarray(k * rows, (k + 1) * rows);
    const lows = this.#lows.subarray(k * rows, (k + 1) * rows);

    await this.#fitGrids(k, gradient, this.#growth, integers);
    const grids = { scales, inverses: scales.map((scale) => 1 / scale), lows, span: 2 ** this.#scheme.bits - 1 };
    for (let from = 0, to; from < size; from = to) {
      to = Math.min(from + PANEL, size);
      await this.#pull(gradient.subarray(from * rows, to * rows), first + from, first + to, change, first, first + from);
      const inside = this.#metric.part(first + from, first + to, first + from, first + to);
      for (let j = from; j < to; j++) {
        if (this.#metric.dead[first + j]) continue;
        const row = (j - from) * (to - from);
        const curve = inside[row + j - from];
        subtractColumns(gradient, j * rows, change, from * rows, rows, j - from, inside, row);
        moveColumn(gradient, integers, change, j * rows, grids, curve, noise * Math.sqrt(this.#metric.meanCurve / curve) * random());
      }
    }
    for (let i = 0; i < change.length; i++) change[i] += this.#growth[i];
  }

  /**
   * Moves the scale of group k in each row, and its offset if it has one, to where the loss is least, as far as they can be stored, where it is less then.
   * @param gradient G of the group's columns, brought up to date
   * @param growth comes back as by how much the weights have grown
   */
  async #fitGrids(k: number, gradient: Float32Array, growth: Float32Array, integers: Float32Array): Promise<void> {
    const rows = this.#rows;
    const size = this.#scheme.groupSize;
    const metric = this.#metric.part(k * size, (k + 1) * size, k * size, (k + 1) * size);
    // H·c, and H·1: what a scale and an offset do to the gradient.
    const products = this.#products;
    await this.#la.gemm({ m: size, n: rows, k: size, a: metric, b: integers, c: products });
    const slopes = dotColumns(integers, gradient, rows, size);
    const curves = dotColumns(integers, products, rows, size);
    // Only where there are offsets is it asked what they do.
    const hasOffsets = this.#scheme.offsets !== undefined;
    const sums = Float64Array.from({ length: size }, (_, j) => (hasOffsets ? total(metric.subarray(j * size, (j + 1) * size)) : 0));
    const flat = total(sums);
    const ones = new Float32Array(hasOffsets ? size * rows : 0).fill(1);
    const lifts = hasOffsets ? dotColumns(ones, gradient, rows, size) : undefined;
    const crosses = hasOffsets ? dotColumns(ones, products, rows, size) : undefined;
    const stretches = new Float64Array(rows);
    const shifts = new Float64Array(rows);
    for (let r = 0; r < rows; r++) {
      const at = k * rows + r;
      const fitted = this.#fit(k, r, { slope: slopes[r], curve: curves[r], lift: lifts?.[r] ?? 0, cross: crosses?.[r] ?? 0, flat });
      if (fitted === undefined) continue;
      stretches[r] = fitted.scale - this.#scales[at];
      shifts[r] = fitted.offset - this.#offsets[at];
      this.#scales[at] = fitted.scale;
      this.#offsets[at] = fitted.offset;
    }
    for (let j = 0; j < size; j++) {
      for (let r = 0, i = j * rows; r < rows; r++, i++) {
        growth[i] = stretches[r] * integers[i] + shifts[r];
        gradient[i] = gradient[i] - stretches[r] * products[i] - shifts[r] * sums[j];
      }
    }
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
          const q = this.#integers[p * rows + r];
          codes[p * rows + r] = q - this.#lows[k * rows + r];
          values[p * rows + r] = this.#scales[k * rows + r] * q + this.#offsets[k * rows + r];
        }
      }
    }
    untranspose(codes, out.codes, rows, permutation);
    untranspose(values, out.dequantized, rows, permutation);
    for (let r = 0; r < rows; r++) {
      if (after[r] <= before[r]) continue;
      after[r] = before[r]!;
      copyRows(start, r, 1, out, r, n);
    }
    return { ...out, loss: total(after) };
  }
}

/** H + λI in the Hessian's order, of which parts are copied as they are needed: they lie in shared memory, which engines refuse. */
class Metric {
  /** By position. */
  readonly dead: readonly boolean[];
  /** Of the diagonal. */
  readonly meanCurve: number;
  readonly coefficients: Coefficients;

  constructor(hessian: PreparedHessian) {
    const { n, matrix } = hessian;
    const diagonal = Float64Array.from(hessian.permutation, (channel) => hessian.diagonal[channel]);
    this.coefficients = { n, matrix, symmetric: true, diagonal, key: `${hessian.id} metric` };
    const dead = new Set(hessian.dead);
    this.meanCurve = hessian.diagonal.reduce((a, b) => a + b, 0) / hessian.n;
    this.dead = Array.from(hessian.permutation, (channel) => dead.has(channel));
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

/** The grids of one group in all rows. */
interface Grids {
  readonly scales: Float64Array;
  readonly inverses: Float64Array;
  readonly lows: Float64Array;
  readonly span: number;
}

/** Moves one column's integers to where the gradient vanishes, or `noise` beside it; leaves by how much its weights have grown. */
function moveColumn(
  gradient: Float32Array, integers: Float32Array, change: Float32Array, at: number, { scales, inverses, lows, span }: Grids, curve: number, noise: number,
): void {
  const inverse = 1 / curve;
  for (let r = 0; r < scales.length; r++) {
    const low = lows[r];
    const high = low + span;
    const before = integers[at + r];
    let q = before + gradient[at + r] * inverse * inverses[r] + noise + MAGIC - MAGIC;
    q = q < low ? low : q > high ? high : q;
    integers[at + r] = q;
    change[at + r] = scales[r] * (q - before);
  }
}

const total = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0);
