import { Candidates, proposerOf, type Proposer } from "./candidates.js";
import { NO_OFFSET, rangeOf, type Grid } from "./grid.js";
import { MAGIC } from "./rounding.js";
import type { QuantScheme } from "./scheme.js";
import type { Steps } from "./super-block.js";

/**
 * Chooses the grid of one group of weights at a time: the one that spans them or, when it searches, of all that `candidates.ts` proposes that
 * with the least Σ h_j (w_j − ŵ_j)²; of equals the first. With h the diagonal of the Hessian this is the group's output error as far as its
 * channels are independent.
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
  readonly #candidates = new Candidates();
  /** The channels of a group by falling importance, so that sums grow early. */
  readonly #ranking: Int32Array;
  readonly #ranked: Float64Array;
  /** The weights, those that some candidate clips before the others, and their importance. */
  readonly #weights: Float64Array;
  readonly #importance: Float64Array;
  /** The candidate that won last: neighbours are alike, and a good one early lets most others be left half-way. */
  #lastWinner = 0;

  constructor(scheme: QuantScheme, search: boolean) {
    this.#propose = proposerOf(scheme, search);
    this.#maxCode = 2 ** scheme.bits - 1;
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

  /** Chooses for a group of weights [groupSize] and leaves the grid in scale, zero and offset. */
  choose(weights: Float64Array): void {
    const { min, max } = rangeOf(weights, 0, weights.length);
    const candidates = this.#candidates;
    candidates.count = 0;
    this.#propose(min, max, candidates, this.steps);
    const winner = candidates.count === 1 ? 0 : this.#best(this.#clippedFirst(weights));
    this.scale = candidates.scales[winner];
    this.zero = candidates.zeros[winner];
    this.offset = candidates.offsets[winner];
    this.#lastWinner = winner;
  }

  /** Copies the group, first the weights that some candidate clips; returns how many those are. */
  #clippedFirst(weights: Float64Array): number {
    let low = -Infinity;
    let high = Infinity;
    const { count, scales, zeros, offsets } = this.#candidates;
    for (let i = 0; i < count; i++) {
      const first = scales[i] * -zeros[i] + offsets[i];
      const last = scales[i] * (this.#maxCode - zeros[i]) + offsets[i];
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
    const { count, scales, zeros, offsets } = this.#candidates;
    const first = Math.min(this.#lastWinner, count - 1);
    let best = Infinity;
    let winner = first;
    for (let turn = -1; turn < count; turn++) {
      if (turn === first) continue;
      const candidate = turn < 0 ? first : turn;
      const zero = zeros[candidate];
      const error = gridError(this.#weights, this.#importance, clipped, scales[candidate], offsets[candidate], -zero, this.#maxCode - zero, best);
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
 * Σ h_j (w_j − o − s·q_j)², q the integers of low … high next to (w_j − o) / s, of which only the first `clipped` weights may lie outside;
 * some number above `limit` once the sum exceeds it.
 */
function gridError(w: Float64Array, h: Float64Array, clipped: number, s: number, o: number, low: number, high: number, limit: number): number {
  const inverse = 1 / s;
  // Two sums, so that neither waits for the other's last addition.
  let even = 0;
  let odd = 0;
  let j = 0;
  for (; j < clipped; j++) {
    const x = w[j] - o;
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
      const x = w[j] - o;
      const y = w[j + 1] - o;
      const d = x - s * (x * inverse + MAGIC - MAGIC);
      const e = y - s * (y * inverse + MAGIC - MAGIC);
      even += h[j] * d * d;
      odd += h[j + 1] * e * e;
    }
  }
  if (j < w.length) {
    const x = w[j] - o;
    const d = x - s * (x * inverse + MAGIC - MAGIC);
    even += h[j] * d * d;
  }
  return even + odd;
}
