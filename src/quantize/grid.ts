import { roundToDtype } from "../safetensors/floats.js";
import { clamp, roundHalfEven, roundToDigits } from "./rounding.js";
import type { QuantScheme, ScaleDtype } from "./scheme.js";

/** The values that a group of weights may take: scale · (code − zero) + offset, code = 0 … 2^bits − 1. */
export interface Grid {
  /** Finite, not 0, and already what its stored dtype can hold. Negative ones turn the longer side of a symmetric grid up. */
  scale: number;
  zero: number;
  /** Already what is stored; `NO_OFFSET` on grids with a zero point. */
  offset: number;
}

/** −0 leaves every number it is added to as it is, 0 would turn −0 into 0. */
export const NO_OFFSET = -0;

/**
 * The largest and the least scale that each dtype holds, and how many significant bits. Subnormals only where half precision would otherwise
 * run out: all its numbers are multiples of the least.
 */
const SCALE_LIMITS: Readonly<Record<ScaleDtype, { readonly least: number; readonly largest: number; readonly digits: number }>> = {
  F16: { least: 2 ** -24, largest: 65504, digits: 11 },
  BF16: { least: 2 ** -126, largest: 2 ** 127 * (2 - 2 ** -7), digits: 8 },
  F32: { least: 2 ** -126, largest: 2 ** 127 * (2 - 2 ** -23), digits: 24 },
};

/** The largest scale of a dtype. A group that got it wanted more: its weights are clipped, which has to be reported. */
export function largestScale(dtype: ScaleDtype): number {
  return SCALE_LIMITS[dtype].largest;
}

/** A scale as the checkpoint will hold it: rounded to its dtype, of the same sign, never 0, never infinite. */
export function storedScale(scale: number, dtype: ScaleDtype): number {
  const { least, largest } = SCALE_LIMITS[dtype];
  const size = clamp(roundToDtype(clamp(Math.abs(scale), least, largest), dtype), least, largest);
  return scale < 0 ? -size : size;
}

/**
 * The scale nearest to a stored one that all formats of a run hold to the last bit, alone and times its zero point (`QuantScheme.heldBy`).
 * The products of few significant bits are found by taking bits off, one by one: those of one bit more were tried, and were not held.
 */
export function heldScale(stored: number, zero: number, { heldBy }: QuantScheme): number {
  if (heldBy === undefined) return stored;
  const { scales, products } = heldBy;
  const scale = Math.sign(stored) * scales.reduce((size, dtype) => Math.max(size, SCALE_LIMITS[dtype].least), Math.abs(stored));
  const held = (candidate: number): boolean => scales.every((dtype) => holds(dtype, candidate)) && products.every((dtype) => holds(dtype, candidate * zero));
  for (let digits = scales.reduce((least, dtype) => Math.min(least, SCALE_LIMITS[dtype].digits), Infinity); digits > 1; digits--) {
    const candidate = roundToDigits(scale, digits);
    if (held(candidate)) return candidate;
  }
  // A power of two: its product has as many bits as the zero point, and only the range of a dtype can be too small for it.
  let power = Math.sign(scale) * 2 ** Math.round(Math.log2(Math.abs(scale)));
  while (!held(power)) power /= 2;
  return power;
}

function holds(dtype: ScaleDtype, x: number): boolean {
  const { least, largest, digits } = SCALE_LIMITS[dtype];
  return roundToDigits(x, digits) === x && Math.abs(x) <= largest && Number.isInteger(x / least);
}

/** An offset as the checkpoint will hold it: rounded to its dtype, finite, at most 0. */
export function storedOffset(offset: number, dtype: ScaleDtype): number {
  return Math.max(-SCALE_LIMITS[dtype].largest, roundToDtype(Math.min(offset, NO_OFFSET), dtype));
}

/** The least and the largest of weights from … to, and 0. */
export function rangeOf(weights: Float64Array, from: number, to: number): { readonly min: number; readonly max: number } {
  let min = 0;
  let max = 0;
  for (let j = from; j < to; j++) {
    const w = weights[j];
    if (w < min) min = w;
    if (w > max) max = w;
  }
  return { min, max };
}

/**
 * The step, not yet rounded, with which a grid of 2^bits values just spans min … max (min ≤ 0 ≤ max). Symmetric grids have
 * one value more below zero than above; half a step is given to either side.
 */
export function spanningStep(min: number, max: number, scheme: QuantScheme): number {
  return scheme.symmetric ? Math.max(-min, max) / ((1 << (scheme.bits - 1)) - 0.5) : (max - min) / ((1 << scheme.bits) - 1);
}

/** The code that stands for 0 on a grid of this scale that starts at `min`. */
export function zeroPoint(min: number, scale: number, scheme: QuantScheme): number {
  return scheme.symmetric ? 1 << (scheme.bits - 1) : clamp(roundHalfEven(-min / scale), 0, (1 << scheme.bits) - 1);
}
