import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { clamp, MAGIC, roundHalfEven } from "#src/quantize/rounding.js";

describe("roundHalfEven", () => {
  it.each([
    [0.5, 0], [1.5, 2], [2.5, 2], [-0.5, 0], [-1.5, -2], [-2.5, -2], [0.49999999999999994, 0], [7.5, 8], [-8.5, -8], [1e9 + 0.5, 1e9], [3, 3],
  ])("rounds %d to %d", (x, expected) => {
    expect(roundHalfEven(x) + 0).toBe(expected);
  });

  it("never is more than a half away, and even when it is just that", () => {
    fc.assert(
      fc.property(fc.double({ min: -(2 ** 40), max: 2 ** 40, noNaN: true }), (x) => {
        const rounded = roundHalfEven(x);
        expect(Number.isInteger(rounded)).toBe(true);
        expect(Math.abs(rounded - x)).toBeLessThanOrEqual(0.5);
        if (Math.abs(rounded - x) === 0.5) expect(Math.abs(rounded % 2)).toBe(0);
      }),
    );
  });

  it("leaves huge values and infinities past any grid", () => {
    expect(roundHalfEven(1e300)).toBe(1e300);
    expect(roundHalfEven(-Infinity)).toBe(-Infinity);
    expect(MAGIC).toBe(1.5 * 2 ** 52);
  });
});

describe("clamp", () => {
  it("takes the nearer end", () => {
    expect([clamp(-9, -8, 7), clamp(8, -8, 7), clamp(3, -8, 7), clamp(Infinity, -8, 7)]).toEqual([-8, 7, 3, 7]);
  });
});
