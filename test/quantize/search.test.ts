import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BITS, type QuantScheme, type ScaleDtype } from "#src/quantize/scheme.js";
import { SEARCH_FACTORS, ZERO_SHIFTS } from "#src/quantize/candidates.js";
import { GridChooser } from "#src/quantize/search.js";
import type { Steps } from "#src/quantize/super-block.js";
import { roundToDtype } from "#src/safetensors/floats.js";
import { gaussians, generator } from "./random.js";
import { referenceCandidates, referenceError, referenceSteps } from "./reference.js";

describe("the candidates", () => {
  it("hold the spanning grid, and reach the lower the fewer the bits", () => {
    for (const bits of BITS) expect(SEARCH_FACTORS[bits]).toContain(1);
    expect(BITS.map((bits) => [SEARCH_FACTORS[bits][0], SEARCH_FACTORS[bits].at(-1)])).toEqual([[1, 0.26], [1.04, 0.42], [1.12, 0.54], [1.25, 0.8], [1.25, 0.94]]);
    expect(ZERO_SHIFTS).toEqual([0, -1, 1]);
  });
});

function expectBest(scheme: QuantScheme, weights: readonly number[], importance: readonly number[], steps?: Steps): void {
  const chooser = new GridChooser(scheme, true);
  if (steps) chooser.steps = steps;
  const best = Math.min(...referenceCandidates(weights, scheme, steps).map((grid) => referenceError(weights, importance, grid, scheme)));
  chooser.weigh(Float64Array.from(importance));
  // What stood before must not matter.
  for (const before of [weights.map((w) => -w * w), weights.toReversed(), weights]) {
    chooser.choose(Float64Array.from(before));
    chooser.choose(Float64Array.from(weights));
    const found = referenceError(weights, importance, chooser, scheme);
    expect(Math.abs(found - best)).toBeLessThanOrEqual(1e-12 * best);
  }
}

describe("GridChooser", () => {
  const groups = (): { weights: number[]; importance: number[] }[] => {
    const random = generator(11);
    return [1, 3, 16, 64, 100].flatMap((n) =>
      Array.from({ length: 6 }, (_, i) => ({
        // Bell-shaped, one-sided, with an outlier, tiny.
        weights: [...gaussians(n, random, i === 5 ? 1e-4 : 0.1)].map((w, j) => (i === 2 ? Math.abs(w) : i === 3 && j === n >> 1 ? 20 * w : w)),
        importance: Array.from({ length: n }, (_, j) => (i === 4 && j % 3 === 0 ? 0 : random() ** 4)),
      })),
    );
  };

  for (const bits of BITS) {
    for (const symmetric of [true, false]) {
      it(`finds what trying every candidate finds: ${bits} bits, ${symmetric ? "symmetric" : "asymmetric"}`, () => {
        for (const { weights, importance } of groups()) {
          const scheme: QuantScheme = { bits, groupSize: weights.length, symmetric, scaleDtype: bits === 2 ? "BF16" : "F16" };
          expectBest(scheme, weights, importance);
        }
      });
    }
  }

  for (const bits of BITS) {
    it(`finds what trying every candidate finds: ${bits} bits, float offsets`, () => {
      for (const { weights, importance } of groups()) {
        const scheme: QuantScheme = { bits, groupSize: weights.length, symmetric: false, scaleDtype: bits === 2 ? "BF16" : "F16", offsets: "float" };
        expectBest(scheme, weights, importance);
      }
    });
  }

  it("finds what trying every candidate finds: super-blocks", () => {
    for (const { weights, importance } of groups()) {
      const scheme: QuantScheme = { bits: 4, groupSize: weights.length, symmetric: false, scaleDtype: "F16", offsets: "super-block" };
      // Steps with room for all, and such that the most and the fewest of them are too few and too many.
      for (const size of [1, 0.2, 50]) {
        const { scale, offset } = referenceSteps(Array.from({ length: 8 }, () => weights).flat(), scheme);
        expectBest(scheme, weights, importance, { scale: roundToDtype(scale * size, "F16"), offset: roundToDtype(offset / size, "F16") });
      }
    }
  });

  it("is never worse than the spanning grid, whatever the group", () => {
    const weight = fc.oneof(
      fc.float({ noNaN: true, noDefaultInfinity: true, min: -2, max: 2 }),
      fc.float({ noNaN: true, noDefaultInfinity: true }),
      fc.constantFrom(0, 1, -1, 65504, 1e-30, -1e-7),
    );
    fc.assert(
      fc.property(
        fc.array(weight, { minLength: 1, maxLength: 40 }), fc.constantFrom(...BITS), fc.boolean(), fc.constantFrom<ScaleDtype>("F16", "BF16", "F32"),
        (weights, bits, symmetric, scaleDtype) => {
          const scheme: QuantScheme = { bits, groupSize: weights.length, symmetric, scaleDtype };
          const ones = weights.map(() => 1);
          const error = (search: boolean) => {
            const chooser = new GridChooser(scheme, search);
            chooser.choose(Float64Array.from(weights));
            expect(Math.abs(chooser.scale)).toBeGreaterThan(0);
            if (!search || !symmetric) expect(chooser.scale).toBeGreaterThan(0);
            expect(Number.isFinite(chooser.scale)).toBe(true);
            expect(Number.isInteger(chooser.zero)).toBe(true);
            expect(chooser.zero).toBeGreaterThanOrEqual(0);
            expect(chooser.zero).toBeLessThan(2 ** bits);
            return referenceError(weights, ones, chooser, scheme);
          };
          expect(error(true)).toBeLessThanOrEqual(error(false) * (1 + 1e-12));
        },
      ),
      { numRuns: 500 },
    );
  });

  it("takes the first of equals", () => {
    const chooser = new GridChooser({ bits: 4, groupSize: 2, symmetric: true, scaleDtype: "F32" }, true);
    chooser.weigh(Float64Array.of(0, 0));
    for (let i = 0; i < 2; i++) {
      chooser.choose(Float64Array.of(0.75, -0.2));
      expect(chooser.scale).toBe(-Math.fround((0.75 / 7.5) * 1.12));
    }
  });

  it("turns the longer side of a symmetric grid to the larger weights", () => {
    for (const bits of BITS) {
      const largest = 2 ** (bits - 1);
      const chooser = new GridChooser({ bits, groupSize: 3, symmetric: true, scaleDtype: "F32" }, true);
      // Grids with that value and its neighbours hold them exactly.
      chooser.choose(Float64Array.of(largest, 1, 1 - largest).map((w) => w * 0.125));
      expect(chooser.scale).toBeLessThan(0);
      chooser.choose(Float64Array.of(-largest, -1, largest - 1).map((w) => w * 0.125));
      expect(chooser.scale).toBeGreaterThan(0);
    }
  });

  it("gives a group of zeros the scale 1", () => {
    for (const symmetric of [true, false]) {
      const chooser = new GridChooser({ bits: 4, groupSize: 3, symmetric, scaleDtype: "F16" }, true);
      chooser.choose(Float64Array.of(1, 2, -3));
      chooser.choose(Float64Array.of(0, -0, 0));
      expect([chooser.scale, chooser.zero]).toEqual([1, symmetric ? 8 : 0]);
    }
  });

  it("spans the group without a search", () => {
    const chooser = new GridChooser({ bits: 3, groupSize: 3, symmetric: false, scaleDtype: "F16" }, false);
    chooser.choose(Float64Array.of(-1, 2.5, 0.1));
    expect([chooser.scale, chooser.zero]).toEqual([0.5, 2]);
  });
});
