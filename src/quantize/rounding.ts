/**
 * x + MAGIC − MAGIC is x rounded half to even, for |x| < 2^51: the sum has no bits left below 1, and the hardware rounds to
 * even. Beyond that the result is still within a few units of x, and infinities stay what they are. Hot loops write it out.
 */
export const MAGIC = 6755399441055744;

/** The integer next to x, halves to the even one, as every reference implementation rounds. `Math.round` does not. */
export function roundHalfEven(x: number): number {
  return x + MAGIC - MAGIC;
}

/** x, or the nearer end of [low, high]. NaN stays NaN. */
export function clamp(x: number, low: number, high: number): number {
  return x < low ? low : x > high ? high : x;
}

/** x to `digits` significant bits, to nearest: what Veltkamp's splitting leaves in its upper half. */
export function roundToDigits(x: number, digits: number): number {
  const high = x * (2 ** (53 - digits) + 1);
  return high - (high - x);
}
