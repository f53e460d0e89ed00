import { heldScale, NO_OFFSET, storedOffset, storedScale } from "./grid.js";
import type { PreparedHessian } from "./hessian.js";
import { placeOf } from "./order.js";
import type { CodedRows } from "./rounded.js";
import type { QuantScheme } from "./scheme.js";
import { gridUnit, steppedOffset, steppedScale, stepsAt, type Steps } from "./super-block.js";

/**
 * How a row's loss depends on the scale and the offset of one group: less 2(slope · Δs + lift · Δo), and
 * curve · Δs² + 2 · cross · Δs·Δo + flat · Δo².
 */
export interface Parabola {
  readonly slope: number;
  readonly curve: number;
  readonly lift: number;
  readonly cross: number;
  readonly flat: number;
}

/** The grids of some rows while they are moved. Lows are integers: a group's weights are scale · (low … low + 2^bits − 1) + offset. */
export class OrderedGrids {
  /** [groups, rows], groups in the Hessian's order. */
  readonly scales: Float64Array;
  readonly lows: Float64Array;
  readonly offsets: Float64Array;
  readonly #rows: number;
  readonly #scheme: QuantScheme;
  readonly #hessian: Pick<PreparedHessian, "n" | "order" | "permutation">;
  readonly #steps: Float32Array | undefined;

  /** @param from left as they are */
  constructor(from: CodedRows, rows: number, scheme: QuantScheme, hessian: Pick<PreparedHessian, "n" | "order" | "permutation">) {
    const groups = hessian.n / scheme.groupSize;
    this.#rows = rows;
    this.#scheme = scheme;
    this.#hessian = hessian;
    this.#steps = from.steps;
    this.scales = new Float64Array(groups * rows);
    this.lows = new Float64Array(groups * rows);
    this.offsets = new Float64Array(groups * rows);
    for (let k = 0, at = 0; k < groups; k++) {
      const group = placeOf(hessian, k * scheme.groupSize, scheme.groupSize);
      for (let r = 0; r < rows; r++, at++) {
        this.scales[at] = from.scales[r * groups + group]!;
        this.lows[at] = 0 - from.zeros[r * groups + group];
        this.offsets[at] = from.offsets?.[r * groups + group] ?? NO_OFFSET;
      }
    }
  }

  /**
   * Moves the scale and the offset of group k in row r to where the loss is least, as far as they can be stored, if it is less then.
   * Returns by how much they moved.
   */
  fit(k: number, r: number, { slope, curve, lift, cross, flat }: Parabola): { readonly stretch: number; readonly shift: number } {
    if (!(curve > 0)) return STILL;
    const { scaleDtype, offsets: kind } = this.#scheme;
    const at = k * this.#rows + r;
    const [scale, offset] = [this.scales[at], this.offsets[at]];
    const steps = this.#stepsOf(k, r);
    const determinant = curve * flat - cross * cross;
    // Where all codes are alike, scale and offset do the same, and the offset is enough.
    const together = determinant > 1e-6 * curve * flat ? (slope * flat - lift * cross) / determinant : 0;
    const best = scale + (kind === undefined ? slope / curve : together);
    const stored = steps ? steppedScale(best, steps) : heldScale(storedScale(best, scaleDtype), -this.lows[at], this.#scheme);
    const stretch = stored - scale;
    const beside = offset + (lift - stretch * cross) / flat;
    const storedBeside = kind === undefined ? offset : steps ? steppedOffset(beside, steps) : storedOffset(beside, scaleDtype);
    const shift = storedBeside - offset;
    const gain = stretch * (2 * slope - stretch * curve) + shift * (2 * lift - shift * flat) - 2 * stretch * shift * cross;
    if (!(gain > 0)) return STILL;
    this.scales[at] = stored;
    this.offsets[at] = storedBeside;
    return { stretch, shift };
  }

  /** The steps of the super-block that group k lies in. */
  #stepsOf(k: number, r: number): Steps | undefined {
    if (this.#steps === undefined) return undefined;
    const unit = gridUnit(this.#scheme);
    return stepsAt(this.#steps, (r * this.#hessian.n) / unit + placeOf(this.#hessian, k * this.#scheme.groupSize, unit));
  }

  /** Writes the grids as a checkpoint holds them. */
  store(into: CodedRows): void {
    const groups = this.scales.length / this.#rows;
    if (this.#steps) into.steps?.set(this.#steps);
    for (let k = 0, at = 0; k < groups; k++) {
      const group = placeOf(this.#hessian, k * this.#scheme.groupSize, this.#scheme.groupSize);
      for (let r = 0; r < this.#rows; r++, at++) {
        into.scales[r * groups + group] = this.scales[at]!;
        into.zeros[r * groups + group] = 0 - this.lows[at];
        if (into.offsets) into.offsets[r * groups + group] = this.offsets[at]!;
      }
    }
  }
}

const STILL = { stretch: 0, shift: 0 } as const;
