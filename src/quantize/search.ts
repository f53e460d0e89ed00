import { spanningStep, storedScale, zeroPoint, type Grid } from "./grid.js";
import { MAGIC } from "./rounding.js";
import type { QuantScheme } from "./scheme.js";

/** Fractions of the spanning step that are tried, in this order: 1.13 down to 0.54. 1 is among them, so a search never loses. */
export const SEARCH_FACTORS: readonly number[] = Array.from({ length: 60 }, (_, i) => (113 - i) / 100);

/** By how much the zero point of an asymmetric grid is moved from where the range puts it. */
export const ZERO_SHIFTS: readonly number[] = [0, -1, 1];

/**
 * Chooses the grid of one group of weights at a time: the one that spans them or, when it searches, of all
 * `SEARCH_FACTORS` (× `ZERO_SHIFTS`) that with the least Σ h_j (w_j − ŵ_j)²; of equals the first. With h the diagonal of the
 * Hessian this is the group's output error as far as its channels are independent.
 */
export class GridChooser implements Grid {
  /** The grid chosen last. */
  scale = 1;
  zero = 0;
  readonly #scheme: QuantScheme;
  readonly #factors: readonly number[];
  readonly #shifts: readonly number[];
  readonly #maxCode: number;
  /** The candidate that won last: neighbours are alike, and a good one early lets most others be left half-way. */
  #lastWinner = 0;

  constructor(scheme: QuantScheme, search: boolean) {
    this.#scheme = scheme;
    this.#factors = search ? SEARCH_FACTORS : [1];
    this.#shifts = search && !scheme.symmetric ? ZERO_SHIFTS : [0];
    this.#maxCode = 2 ** scheme.bits - 1;
  }

  /** Chooses for the first n of `weights`, weighted by the first n of `importance` (≥ 0), and leaves it in scale and zero. */
  choose(weights: Float64Array, importance: Float64Array, n: number): void {
    let min = 0;
    let max = 0;
    let peak = 0;
    for (let j = 0; j < n; j++) {
      const w = weights[j];
      if (w < min) min = w;
      if (w > max) max = w;
    }
    for (let j = 0; j < n; j++) {
      if (weights[j] === (max > -min ? max : min)) peak = j;
    }
    const step = spanningStep(min, max, this.#scheme);
    if (step === 0) {
      this.scale = 1;
      this.zero = zeroPoint(0, 1, this.#scheme);
      return;
    }
    const factors = this.#factors;
    const candidates = factors.length * this.#shifts.length;
    const peakWeight = weights[peak];
    const peakImportance = importance[peak];
    let best = Infinity;
    let winner = candidates;
    for (let turn = -1; turn < candidates; turn++) {
      if (turn === this.#lastWinner) continue;
      const candidate = turn < 0 ? this.#lastWinner : turn;
      const factor = factors[candidate % factors.length];
      const scale = storedScale(step * factor, this.#scheme.scaleDtype);
      const zero = zeroPoint(min * factor, scale, this.#scheme) + this.#shifts[Math.floor(candidate / factors.length)];
      if (zero < 0 || zero > this.#maxCode) continue;
      if (candidates === 1) {
        this.scale = scale;
        this.zero = zero;
        return;
      }
      const low = -zero;
      const high = this.#maxCode - zero;
      // What the largest weight alone loses by clipping rules out most of the small steps.
      const clipped = peakWeight - scale * (peakWeight < 0 ? low : high);
      if (peakWeight * clipped > 0 && peakImportance * clipped * clipped > best) continue;
      const error = gridError(weights, importance, n, scale, low, high, best);
      if (error < best || (error === best && candidate < winner)) {
        best = error;
        winner = candidate;
        this.scale = scale;
        this.zero = zero;
      }
    }
    this.#lastWinner = winner;
  }
}

/** Σ h_j (w_j − s·q_j)², q the integers of low … high next to w_j / s; any number above `limit` once the sum exceeds that. */
function gridError(w: Float64Array, h: Float64Array, n: number, s: number, low: number, high: number, limit: number): number {
  const inverse = 1 / s;
  let sum = 0;
  for (let j = 0; j < n; ) {
    const end = j + 16 < n ? j + 16 : n;
    for (; j < end; j++) {
      const x = w[j];
      let q = x * inverse + MAGIC - MAGIC;
      q = q < low ? low : q > high ? high : q;
      const d = x - s * q;
      sum += h[j] * d * d;
    }
    if (sum > limit) return sum;
  }
  return sum;
}
