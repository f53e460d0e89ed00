import { rangeOf, spanningStep, storedScale } from "./grid.js";
import { clamp, roundHalfEven } from "./rounding.js";
import type { QuantScheme } from "./scheme.js";

// GGUF's K-quants: a super-block of groups shares the step of their scales and that of their offsets, of which scales are 1 … 63 times
// the one, and offsets −63 … 0 times the other. Without offsets (Q6_K) scales are −127 … 127 times their step, but never 0.

/** Groups in a super-block, with offsets and without. */
const SUPER_BLOCK = 8;
const SIGNED_SUPER_BLOCK = 16;
/** The most steps in a scale or an offset: 6 bits. */
export const MOST_STEPS = 63;
/** The most steps in a scale that has a sign: 8 bits. −128 is left to others, so that either sign reaches as far. */
export const MOST_SIGNED_STEPS = 127;

/**
 * How much longer a step is than one of which the most just span the super-block: weights grow while columns before them are rounded, and the steps are
 * chosen before. On the demo model 0.9 costs a fifth of the error, and whether it is 1 or 1.2 not a hundredth.
 */
const HEADROOM = 1.1;

/** The steps of one super-block's scales and offsets: positive, and what their dtype can hold. The offsets' is 0 where there are none. */
export interface Steps {
  readonly scale: number;
  readonly offset: number;
}

/** Channels whose grids depend on each other. */
export function gridUnit({ groupSize, offsets, scales }: Pick<QuantScheme, "groupSize" | "offsets" | "scales">): number {
  if (scales === "super-block") return groupSize * SIGNED_SUPER_BLOCK;
  return offsets === "super-block" ? groupSize * SUPER_BLOCK : groupSize;
}

/** Whether groups lie in super-blocks. */
export function hasSteps({ offsets, scales }: Pick<QuantScheme, "offsets" | "scales">): boolean {
  return offsets === "super-block" || scales === "super-block";
}

/**
 * Chooses the steps for a super-block of weights [gridUnit]: of scales and offsets that just span each group, the largest has nearly the
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
  const stepOf = (largest: number, most: number): number => storedScale((largest * HEADROOM) / most, scheme.scaleDtype);
  return scheme.scales === "super-block" ? { scale: stepOf(scale, MOST_SIGNED_STEPS), offset: 0 } : { scale: stepOf(scale, MOST_STEPS), offset: stepOf(offset, MOST_STEPS) };
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
  if (steps.offset > 0) return steps.scale * wholeSteps(scale, steps.scale, 1);
  return Math.sign(scale) * steps.scale * wholeSteps(Math.abs(scale), steps.scale, 1, MOST_SIGNED_STEPS);
}

/** The offset of whole steps next to `offset`. */
export function steppedOffset(offset: number, steps: Steps): number {
  return -steps.offset * wholeSteps(-offset, steps.offset, 0);
}

/** How many steps are next to `length`: `least` … `most`. */
export function wholeSteps(length: number, step: number, least: 0 | 1, most = MOST_STEPS): number {
  return clamp(roundHalfEven(length / step), least, most);
}
