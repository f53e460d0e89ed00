import { heldScale, NO_OFFSET, spanningStep, storedOffset, storedScale, zeroPoint } from "./grid.js";
import type { Bits, QuantScheme } from "./scheme.js";
import { MOST_SIGNED_STEPS, MOST_STEPS, wholeSteps, type Steps } from "./super-block.js";

/**
 * Fractions of the spanning step that are tried, in this order: the fewer the bits, the more it pays to clip, and the less it
 * matters where exactly. 1 is among them, so a search never loses. As many as the kernel sums in few passes of 16, and finest where nearly all of those chosen
 * lie. On trained weights and bell-shaped ones, in groups of 32 and 128, those for 6 bits find all but 0.3 % of what 1.40 … 0.35 would.
 */
export const SEARCH_FACTORS: Readonly<Record<Bits, readonly number[]>> = {
  2: hundredths(100, 26, 2),
  3: hundredths(104, 42, 2),
  4: [...hundredths(112, 100, 2), ...hundredths(99, 70, 1), ...hundredths(68, 54, 2)],
  6: hundredths(125, 80, 1),
  8: hundredths(125, 94, 1),
};

function hundredths(from: number, to: number, step: number): number[] {
  return Array.from({ length: Math.floor((from - to) / step) + 1 }, (_, i) => (from - i * step) / 100);
}

/** The most bits at which the shorter side of a symmetric grid is tried for the larger weights as well: above it gains nothing. */
const TURNED_BITS = 3;

/** By how much the zero point of an asymmetric grid is moved from where the range puts it. */
export const ZERO_SHIFTS: readonly number[] = [0, -1, 1];

/** By how much of a scale an offset is moved at most, either way, and in how many parts of that. */
const OFFSET_REACH = 0.5;
const OFFSET_PARTS = 4;

/** Every number of steps with every other, and more than any other kind has. */
export const MOST_CANDIDATES = MOST_STEPS * (MOST_STEPS + 1);

/** The grids from which one group's is chosen; of equals the first wins. */
export class Candidates {
  count = 0;

  /** @param scales, zeros, offsets where they are kept [MOST_CANDIDATES]; scales and offsets are of dtypes that float32 holds, or whole steps of such */
  constructor(readonly scales: Float32Array, readonly zeros: Float32Array, readonly offsets: Float32Array) {}

  add(scale: number, zero: number, offset: number): void {
    this.scales[this.count] = scale;
    this.zeros[this.count] = zero;
    this.offsets[this.count++] = offset;
  }
}

/** Adds the grids for a group whose weights lie in min … max, min ≤ 0 ≤ max; in a super-block, those of its steps. */
export type Proposer = (min: number, max: number, into: Candidates, steps: Steps) => void;

export function proposerOf(scheme: QuantScheme, search: boolean): Proposer {
  if (scheme.scales === "super-block") return signedSteppedGrids(scheme, search);
  switch (scheme.offsets) {
    case undefined:
      return zeroPointGrids(scheme, search);
    case "float":
      return floatOffsetGrids(scheme, search);
    case "super-block":
      return steppedGrids(scheme, search);
  }
}

/**
 * Every factor with all `ZERO_SHIFTS`. A symmetric grid has one value more on one side; a negative scale turns that side up, as readers only
 * multiply. It is turned to the larger weights or, with few bits, tried both ways.
 */
function zeroPointGrids(scheme: QuantScheme, search: boolean): Proposer {
  const { bits, symmetric, scaleDtype } = scheme;
  const factors = search ? SEARCH_FACTORS[bits] : [1];
  const shifts = search && !symmetric ? ZERO_SHIFTS : [0];
  const turned = search && symmetric;
  const turns = turned && bits <= TURNED_BITS ? [1, -1] : [1];
  const maxCode = 2 ** bits - 1;
  const scales = new Float64Array(factors.length);
  const zeros = new Float64Array(factors.length);
  return (min, max, into) => {
    const span = spanningStep(min, max, scheme);
    if (span === 0) {
      into.add(1, zeroPoint(0, 1, scheme), NO_OFFSET);
      return;
    }
    // The longer side to where the larger weights are: that is nearly always the better one.
    const step = turned && max > -min ? -span : span;
    for (const turn of turns) {
      for (let i = 0; i < factors.length; i++) {
        scales[i] = storedScale(turn * step * factors[i], scaleDtype);
        zeros[i] = zeroPoint(min * factors[i], scales[i], scheme);
      }
      for (const shift of shifts) {
        for (let i = 0; i < factors.length; i++) {
          const shifted = zeros[i] + shift;
          // A shift out of range becomes the candidate without a shift, which comes first and so wins against it.
          const own = shifted < 0 || shifted > maxCode ? zeros[i] : shifted;
          into.add(heldScale(scales[i], own, scheme), own, NO_OFFSET);
        }
      }
    }
  };
}

/** Every second hundredth among the factors, which is enough beside offsets as fine as these, with each of them. */
function floatOffsetGrids(scheme: QuantScheme, search: boolean): Proposer {
  const { bits, scaleDtype } = scheme;
  const factors = search ? SEARCH_FACTORS[bits].filter((factor) => Math.round(100 * factor) % 2 === 0) : [1];
  const parts = search ? OFFSET_PARTS : 0;
  return (min, max, into) => {
    const span = spanningStep(min, max, scheme);
    if (span === 0) {
      into.add(1, 0, NO_OFFSET);
      return;
    }
    for (let part = -parts; part <= parts; part++) {
      for (const factor of factors) {
        const scale = storedScale(span * factor, scaleDtype);
        into.add(scale, 0, storedOffset(min * factor + ((part * OFFSET_REACH) / OFFSET_PARTS) * scale, scaleDtype));
      }
    }
  };
}

/** Every scale of whole steps between the largest and the least factor, its sign such that the longer side is where the larger weights are. */
function signedSteppedGrids(scheme: QuantScheme, search: boolean): Proposer {
  const factors = SEARCH_FACTORS[scheme.bits];
  const [most, least] = search ? [factors[0], factors[factors.length - 1]] : [1, 1];
  const zero = 2 ** (scheme.bits - 1);
  return (min, max, into, steps) => {
    const span = spanningStep(min, max, scheme);
    const step = search && max > -min ? -steps.scale : steps.scale;
    const lowest = wholeSteps(span * least, steps.scale, 1, MOST_SIGNED_STEPS);
    for (let i = wholeSteps(span * most, steps.scale, 1, MOST_SIGNED_STEPS); i >= lowest; i--) into.add(i * step, zero, NO_OFFSET);
  };
}

/** Every scale of whole steps between the largest and the least factor, with every offset of whole steps within reach. */
function steppedGrids(scheme: QuantScheme, search: boolean): Proposer {
  const factors = SEARCH_FACTORS[scheme.bits];
  const [most, least] = search ? [factors[0], factors[factors.length - 1]] : [1, 1];
  const reach = search ? OFFSET_REACH : 0;
  return (min, max, into, steps) => {
    const span = spanningStep(min, max, scheme);
    const lowest = wholeSteps(span * least, steps.scale, 1);
    for (let i = wholeSteps(span * most, steps.scale, 1); i >= lowest; i--) {
      const scale = i * steps.scale;
      const below = span === 0 ? 0 : (-min / span) * scale;
      const last = wholeSteps(below + reach * scale, steps.offset, 0);
      for (let j = wholeSteps(below - reach * scale, steps.offset, 0); j <= last; j++) into.add(scale, 0, -steps.offset * j);
    }
  };
}
