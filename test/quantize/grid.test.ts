import { describe, expect, it } from "vitest";
import { heldScale, largestScale, spanningStep, storedScale, zeroPoint } from "#src/quantize/grid.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import { roundToDtype, toFloat32 } from "#src/safetensors/floats.js";
import { generator } from "./random.js";

const scheme = (bits: QuantScheme["bits"], symmetric: boolean): QuantScheme => ({ bits, groupSize: 32, symmetric, scaleDtype: "F16" });

describe("spanningStep", () => {
  it("gives a symmetric grid half a step beyond its ends", () => {
    expect(spanningStep(-1, 0.25, scheme(4, true))).toBe(1 / 7.5);
    expect(spanningStep(-0.25, 3, scheme(2, true))).toBe(2);
    expect(spanningStep(-1, 1, scheme(8, true))).toBe(1 / 127.5);
  });

  it("divides an asymmetric range into 2^bits − 1 steps", () => {
    expect(spanningStep(-1, 2, scheme(4, false))).toBe(0.2);
    expect(spanningStep(0, 7, scheme(3, false))).toBe(1);
  });
});

describe("zeroPoint", () => {
  it("is the middle of a symmetric grid", () => {
    expect([2, 3, 4, 8].map((bits) => zeroPoint(-5, 0.1, scheme(bits as 2, true)))).toEqual([2, 4, 8, 128]);
  });

  it("is where 0 falls on an asymmetric one, kept inside it", () => {
    expect(zeroPoint(-1, 0.2, scheme(4, false))).toBe(5);
    expect(zeroPoint(0, 0.2, scheme(4, false))).toBe(0);
    expect(zeroPoint(-3, 0.2, scheme(4, false))).toBe(15);
    // Half-way: to even.
    expect(zeroPoint(-2.5, 1, scheme(4, false))).toBe(2);
  });
});

describe("storedScale", () => {
  it("rounds to the dtype", () => {
    expect(storedScale(1 / 3, "F16")).toBe(0.333251953125);
    expect(storedScale(1 / 3, "BF16")).toBe(0.333984375);
    expect(storedScale(1 / 3, "F32")).toBe(Math.fround(1 / 3));
  });

  it.each([
    ["F16", 2 ** -24, 65504],
    ["BF16", 2 ** -126, 3.3895313892515355e38],
    ["F32", 2 ** -126, 3.4028234663852886e38],
  ] as const)("keeps %s away from 0 and infinity", (dtype, least, largest) => {
    expect(largestScale(dtype)).toBe(largest);
    for (const x of [1e-300, Number.MIN_VALUE, 1e-46]) expect(storedScale(x, dtype)).toBe(least);
    for (const x of [1e300, largest * 1.001, largest, Infinity]) expect(storedScale(x, dtype)).toBe(largest);
  });

  it("keeps the sign", () => {
    expect(storedScale(-1 / 3, "F16")).toBe(-0.333251953125);
    expect(storedScale(-1e300, "F16")).toBe(-65504);
    expect(storedScale(-1e-300, "F16")).toBe(-(2 ** -24));
  });
});

describe("heldScale", () => {
  /** What each dtype holds, said by its own rounding. */
  const isHeld = (x: number, { scales, products }: HeldBy, zero: number): boolean =>
    scales.every((dtype) => roundToDtype(x, dtype) === x) && products.every((dtype) => roundToDtype(x * zero, dtype) === x * zero);
  type HeldBy = NonNullable<QuantScheme["heldBy"]>;
  // All positive numbers of half precision: no scale that F16 holds is missing.
  const halves = [...toFloat32(new Uint8Array(Uint16Array.from({ length: 0x7bff }, (_, i) => i + 1).buffer), "F16")];

  it.each<HeldBy>([
    { scales: ["F16", "BF16"], products: [] },
    { scales: ["F16"], products: ["F16"] },
    { scales: ["F16", "BF16"], products: ["BF16"] },
    { scales: ["F16", "BF16"], products: ["F16", "BF16"] },
  ])("is the nearest of all that $scales hold, and times the zero point $products", (heldBy) => {
    const random = generator(3);
    for (let zero = 0; zero < 16; zero++) {
      const candidates = halves.filter((x) => isHeld(x, heldBy, zero));
      for (let i = 0; i < 60; i++) {
        const stored = storedScale(2 ** (34 * random() - 24) * (i % 2 === 0 ? 1 : -1), "F16");
        const found = heldScale(stored, zero, { ...scheme(4, false), heldBy });
        const nearest = Math.min(...candidates.map((x) => Math.abs(x - Math.abs(stored))));
        expect([Math.sign(found), isHeld(found, heldBy, zero), Math.abs(found - stored)]).toEqual([Math.sign(stored), true, nearest]);
      }
    }
  });

  it("is what is stored where one format is asked alone", () => {
    expect(heldScale(0.333251953125, 7, scheme(4, false))).toBe(0.333251953125);
  });

  it("stays in the range of every dtype", () => {
    const heldBy: HeldBy = { scales: ["BF16", "F16"], products: ["F16"] };
    expect(heldScale(2 ** 100, 15, { ...scheme(4, false), heldBy })).toBe(4096);
    expect(heldScale(-(2 ** -100), 15, { ...scheme(4, false), heldBy })).toBe(-(2 ** -24));
    expect(heldScale(3e-6, 200, { ...scheme(8, false), heldBy: { scales: ["BF16"], products: ["BF16"] } })).toBe(6 * 2 ** -21);
  });
});
