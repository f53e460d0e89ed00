import { proposerOf, type Proposer } from "./candidates.js";
import { NO_OFFSET, rangeOf, type Grid } from "./grid.js";
import { MAGIC } from "./rounding.js";
import type { QuantScheme } from "./scheme.js";
import { searchViews, sumErrors, type SearchViews } from "./search-kernel.js";
import type { Steps } from "./super-block.js";

/**
 * What single precision may make of w − ŵ beyond what it is, in units of the largest weight: w, o, s, s·q and the differences are each rounded, to 2^−24 of about
 * as much.
 */
const TERM_DOUBT = 2 ** -21;

/**
 * Chooses the grid of one group of weights at a time: the one that spans them or, when it searches, of all that `candidates.ts` proposes that
 * with the least Σ h_j (w_j − ŵ_j)²; of equals the first. With h the diagonal of the Hessian this is the group's output error as far as its
 * channels are independent. Sums in single precision tell which candidates may be the best; those alone are summed in double precision.
 */
export class GridChooser implements Grid {
  /** The grid chosen last. */
  scale = 1;
  zero = 0;
  offset = NO_OFFSET;
  /** Of the super-block that the next groups lie in, where the scheme has them. */
  steps: Steps = { scale: 1, offset: 1 };
  readonly #propose: Proposer;
  readonly #maxCode: number;
  readonly #importance: Float64Array;
  /** The same over the largest, and how far the root of a sum so weighted may be off for what is rounded in its terms. */
  readonly #relative: Float32Array;
  #doubt = 0;

  constructor(scheme: QuantScheme, search: boolean) {
    this.#propose = proposerOf(scheme, search);
    this.#maxCode = 2 ** scheme.bits - 1;
    this.#importance = new Float64Array(scheme.groupSize);
    this.#relative = new Float32Array(scheme.groupSize);
    this.weigh(new Float64Array(scheme.groupSize).fill(1));
  }

  /** Weights the errors of the groups that follow by h ≥ 0 [groupSize]; until then all channels count alike. */
  weigh(importance: Float64Array): void {
    this.#importance.set(importance);
    const largest = importance.reduce((a, b) => Math.max(a, b), 0);
    this.#relative.set(importance.map((h) => h / largest));
    this.#doubt = TERM_DOUBT * Math.sqrt(this.#relative.reduce((a, b) => a + b, 0));
  }

  /** Chooses for a group of weights [groupSize] and leaves the grid in scale, zero and offset. */
  choose(weights: Float64Array): void {
    const { min, max } = rangeOf(weights, 0, weights.length);
    const views = searchViews(weights.length);
    const { candidates } = views;
    candidates.count = 0;
    this.#propose(min, max, candidates, this.steps);
    const winner = candidates.count === 1 ? 0 : this.#best(weights, views, 1 / Math.max(max, -min));
    this.scale = candidates.scales[winner];
    this.zero = candidates.zeros[winner];
    this.offset = candidates.offsets[winner];
  }

  /** @param unit one over the largest weight, by which all are measured, so that single precision holds their squares */
  #best(weights: Float64Array, views: SearchViews, unit: number): number {
    const { candidates: { count, scales, zeros, offsets }, w, h, sums } = views;
    for (let j = 0; j < weights.length; j++) w[j] = weights[j] * unit;
    h.set(this.#relative);
    sumErrors(views, this.#maxCode, unit);
    let least = Infinity;
    for (let i = 0; i < count; i++) if (sums[i] < least) least = sums[i];
    // As much for the least sum as for another; and what is rounded as they are summed. Sums that are no numbers say nothing, and are all tried.
    const limit = (Math.sqrt(least) * (1 + weights.length * 2 ** -23) + 2 * this.#doubt) ** 2;
    let best = Infinity;
    let winner = 0;
    for (let i = 0; i < count; i++) {
      if (sums[i] > limit) continue;
      const error = gridError(weights, this.#importance, scales[i], offsets[i], 0 - zeros[i], this.#maxCode - zeros[i]);
      if (error < best) {
        best = error;
        winner = i;
      }
    }
    return winner;
  }
}

/** Σ h_j (w_j − o − s·q_j)², q the integers of low … high next to (w_j − o) / s. */
function gridError(w: Float64Array, h: Float64Array, s: number, o: number, low: number, high: number): number {
  const inverse = 1 / s;
  let sum = 0;
  for (let j = 0; j < w.length; j++) {
    const x = w[j] - o;
    let q = x * inverse + MAGIC - MAGIC;
    q = q < low ? low : q > high ? high : q;
    const d = x - s * q;
    sum += h[j] * d * d;
  }
  return sum;
}
