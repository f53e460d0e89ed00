import { spanningStep, storedScale, zeroPoint, type Grid } from "./grid.js";
import { MAGIC } from "./rounding.js";
import type { Bits, QuantScheme } from "./scheme.js";

/**
 * Fractions of the spanning step that are tried, in this order: the fewer the bits, the more it pays to clip, and the less it
 * matters where exactly. 1 is among them, so a search never loses.
 */
export const SEARCH_FACTORS: Readonly<Record<Bits, readonly number[]>> = {
  2: hundredths(100, 26, 2),
  3: hundredths(104, 40, 2),
  4: hundredths(113, 54, 1),
  8: hundredths(125, 86, 1),
};

function hundredths(from: number, to: number, step: number): number[] {
  return Array.from({ length: Math.floor((from - to) / step) + 1 }, (_, i) => (from - i * step) / 100);
}

/** The most bits at which the shorter side of a symmetric grid is tried for the larger weights as well: above it gains nothing. */
const TURNED_BITS = 3;

/** By how much the zero point of an asymmetric grid is moved from where the range puts it. */
export const ZERO_SHIFTS: readonly number[] = [0, -1, 1];

/**
 * Chooses the grid of one group of weights at a time: the one that spans them or, when it searches, of all
 * `SEARCH_FACTORS` that with the least Σ h_j (w_j − ŵ_j)²; of equals the first. With h the diagonal of the
 * Hessian this is the group's output error as far as its channels are independent.
 * Every factor is tried with all `ZERO_SHIFTS`. A symmetric grid has one value more on one side; a negative scale turns that side
 * up, as readers only multiply. It is turned to the larger weights or, with few bits, tried both ways.
 */
export class GridChooser implements Grid {
  /** The grid chosen last. */
  scale = 1;
  zero = 0;
  readonly #scheme: QuantScheme;
  readonly #factors: readonly number[];
  readonly #shifts: readonly number[];
  readonly #turned: boolean;
  readonly #turns: readonly number[];
  readonly #maxCode: number;
  /** The candidates' grids. */
  readonly #scales: Float64Array;
  readonly #zeros: Float64Array;
  /** The channels of a group by falling importance, so that sums grow early. */
  readonly #ranking: Int32Array;
  readonly #ranked: Float64Array;
  /** The weights, those that some candidate clips before the others, and their importance. */
  readonly #weights: Float64Array;
  readonly #importance: Float64Array;
  /** The candidate that won last: neighbours are alike, and a good one early lets most others be left half-way. */
  #lastWinner = 0;

  constructor(scheme: QuantScheme, search: boolean) {
    this.#scheme = scheme;
    this.#factors = search ? SEARCH_FACTORS[scheme.bits] : [1];
    this.#shifts = search && !scheme.symmetric ? ZERO_SHIFTS : [0];
    this.#turned = search && scheme.symmetric;
    this.#turns = this.#turned && scheme.bits <= TURNED_BITS ? [1, -1] : [1];
    this.#maxCode = 2 ** scheme.bits - 1;
    const candidates = this.#factors.length * this.#shifts.length * this.#turns.length;
    this.#scales = new Float64Array(candidates);
    this.#zeros = new Float64Array(candidates);
    this.#ranking = Int32Array.from({ length: scheme.groupSize }, (_, j) => j);
    this.#ranked = new Float64Array(scheme.groupSize).fill(1);
    this.#weights = new Float64Array(scheme.groupSize);
    this.#importance = new Float64Array(scheme.groupSize);
  }

  /** Weights the errors of the groups that follow by h ≥ 0 [groupSize]; until then all channels count alike. */
  weigh(importance: Float64Array): void {
    this.#ranking.sort((a, b) => importance[b] - importance[a] || a - b);
    this.#ranking.forEach((channel, rank) => (this.#ranked[rank] = importance[channel]));
  }

  /** Chooses for a group of weights [groupSize] and leaves the grid in scale and zero. */
  choose(weights: Float64Array): void {
    let min = 0;
    let max = 0;
    for (let j = 0; j < weights.length; j++) {
      const w = weights[j];
      if (w < min) min = w;
      if (w > max) max = w;
    }
    const step = spanningStep(min, max, this.#scheme);
    if (step === 0) {
      this.scale = 1;
      this.zero = zeroPoint(0, 1, this.#scheme);
      return;
    }
    // The longer side to where the larger weights are: that is nearly always the better one.
    this.#propose(min, this.#turned && max > -min ? -step : step);
    const scales = this.#scales;
    const zeros = this.#zeros;
    const winner = scales.length === 1 ? 0 : this.#best(this.#clippedFirst(weights));
    this.scale = scales[winner];
    this.zero = zeros[winner];
    this.#lastWinner = winner;
  }

  /** Fills in the candidates for a group whose least weight is `min` and that `step` just spans. */
  #propose(min: number, step: number): void {
    let at = 0;
    for (const turn of this.#turns) {
      for (const shift of this.#shifts) {
        for (const factor of this.#factors) {
          const scale = storedScale(turn * step * factor, this.#scheme.scaleDtype);
          const zero = zeroPoint(min * factor, scale, this.#scheme);
          const shifted = zero + shift;
          this.#scales[at] = scale;
          // A shift out of range becomes the candidate without a shift, which comes first and so wins against it.
          this.#zeros[at++] = shifted < 0 || shifted > this.#maxCode ? zero : shifted;
        }
      }
    }
  }

  /** Copies the group, first the weights that some candidate clips; returns how many those are. */
  #clippedFirst(weights: Float64Array): number {
    let low = -Infinity;
    let high = Infinity;
    for (let i = 0; i < this.#scales.length; i++) {
      const first = this.#scales[i] * -this.#zeros[i];
      const last = this.#scales[i] * (this.#maxCode - this.#zeros[i]);
      low = Math.max(low, Math.min(first, last));
      high = Math.min(high, Math.max(first, last));
    }
    let clipped = 0;
    for (let j = 0; j < weights.length; j++) {
      if (weights[j] < low || weights[j] > high) clipped++;
    }
    let front = 0;
    let back = clipped;
    for (let rank = 0; rank < weights.length; rank++) {
      const w = weights[this.#ranking[rank]];
      let to = back;
      if (w < low || w > high) {
        // The largest first: those are clipped most. Past a few dozen their order no longer matters, and sorting so takes long.
        for (to = front++; to > 0 && to < SORTED && Math.abs(this.#weights[to - 1]) < Math.abs(w); to--) {
          this.#weights[to] = this.#weights[to - 1];
          this.#importance[to] = this.#importance[to - 1];
        }
      } else back++;
      this.#weights[to] = w;
      this.#importance[to] = this.#ranked[rank];
    }
    return clipped;
  }

  #best(clipped: number): number {
    let best = Infinity;
    let winner = this.#lastWinner;
    for (let turn = -1; turn < this.#scales.length; turn++) {
      if (turn === this.#lastWinner) continue;
      const candidate = turn < 0 ? this.#lastWinner : turn;
      const zero = this.#zeros[candidate];
      const error = gridError(this.#weights, this.#importance, clipped, this.#scales[candidate], -zero, this.#maxCode - zero, best);
      if (error < best || (error === best && candidate < winner)) {
        best = error;
        winner = candidate;
      }
    }
    return winner;
  }
}

/** How many of the clipped weights are kept in order. */
const SORTED = 32;
/** How many weights are looked at before the sum is compared with the best. */
const STRIDE = 16;

/**
 * Σ h_j (w_j − s·q_j)², q the integers of low … high next to w_j / s, of which only the first `clipped` weights may lie outside;
 * some number above `limit` once the sum exceeds it.
 */
function gridError(w: Float64Array, h: Float64Array, clipped: number, s: number, low: number, high: number, limit: number): number {
  const inverse = 1 / s;
  // Two sums, so that neither waits for the other's last addition.
  let even = 0;
  let odd = 0;
  let j = 0;
  for (; j < clipped; j++) {
    const x = w[j];
    let q = x * inverse + MAGIC - MAGIC;
    q = q < low ? low : q > high ? high : q;
    const d = x - s * q;
    even += h[j] * d * d;
    if (even > limit) return even;
  }
  const pairs = w.length - 1;
  while (j < pairs) {
    if (even + odd > limit) return even + odd;
    const end = j + STRIDE < pairs ? j + STRIDE : pairs;
    for (; j < end; j += 2) {
      const x = w[j];
      const y = w[j + 1];
      const d = x - s * (x * inverse + MAGIC - MAGIC);
      const e = y - s * (y * inverse + MAGIC - MAGIC);
      even += h[j] * d * d;
      odd += h[j + 1] * e * e;
    }
  }
  if (j < w.length) {
    const d = w[j] - s * (w[j] * inverse + MAGIC - MAGIC);
    even += h[j] * d * d;
  }
  return even + odd;
}
