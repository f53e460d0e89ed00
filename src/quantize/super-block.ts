import { rangeOf, spanningStep, storedScale } from "./grid.js";
import { clamp, roundHalfEven } from "./rounding.js";
import type { QuantScheme } from "./scheme.js";

// GGUF's K-quants: a super-block of groups shares the step of their scales and that of their offsets, of which scales are 1 … 63 times
// the one, and offsets −63 … 0 times the other.

/** Groups in a super-block. */
const SUPER_BLOCK = 8;
/** The most steps in a scale or an offset: 6 bits. */
export const MOST_STEPS = 63;

/**
 * How much longer a step is than one of which the most just span the super-block: weights grow while columns before them are rounded, and the steps are
 * chosen before. On the demo model 0.9 costs a fifth of the error, and whether it is 1 or 1.2 not a hundredth.
 */
const HEADROOM = 1.1;

/** The steps of one super-block's scales and offsets: positive, and what their dtype can hold. */
export interface Steps {
  readonly scale: number;
  readonly offset: number;
}

/** Channels whose grids depend on each other. */
export function gridUnit({ groupSize, offsets }: Pick<QuantScheme, "groupSize" | "offsets">): number {
  return offsets === "super-block" ? groupSize * SUPER_BLOCK : groupSize;
}

/**
 * Chooses the steps for a super-block of weights [SUPER_BLOCK · groupSize]: of scales and offsets that just span each group, the largest has nearly the
 * most steps.
 */
export function chooseSteps(weights: Float64Array, scheme: QuantScheme): Steps {
  let scale = 0;
  let offset = 0;
  for (let at = 0; at < weights.length; at += scheme.groupSize) {
    const { min, max } = rangeOf(weights, at, at + scheme.groupSize);
    scale = Math.max(scale, spanningStep(min, max, scheme));
    offset = Math.max(offset, -min);
  }
  const stepOf = (largest: number): number => storedScale((largest * HEADROOM) / MOST_STEPS, scheme.scaleDtype);
  return { scale: stepOf(scale), offset: stepOf(offset) };
}

/** Keeps the steps of super-block `at` among those of all [superBlocks, 2]. */
export function storeSteps(all: Float32Array, at: number, { scale, offset }: Steps): void {
  all[2 * at] = scale;
  all[2 * at + 1] = offset;
}

/** Finds them there. */
export function stepsAt(all: Float32Array, at: number): Steps {
  return { scale: all[2 * at], offset: all[2 * at + 1] };
}

/** The scale of whole steps next to `scale`. */
export function steppedScale(scale: number, steps: Steps): number {
  return steps.scale * wholeSteps(scale, steps.scale, 1);
}

/** The offset of whole steps next to `offset`. */
export function steppedOffset(offset: number, steps: Steps): number {
  return -steps.offset * wholeSteps(-offset, steps.offset, 0);
}

/** How many steps are next to `length`: `least` … 63. */
export function wholeSteps(length: number, step: number, least: 0 | 1): number {
  return clamp(roundHalfEven(length / step), least, MOST_STEPS);
}
