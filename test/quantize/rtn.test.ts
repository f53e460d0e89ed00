import { describe, expect, it } from "vitest";
import { dequantize } from "#src/quantize/dequantize.js";
import { roundToNearest } from "#src/quantize/rtn.js";
import { BITS, type QuantScheme } from "#src/quantize/scheme.js";
import { roundAllToDtype } from "#src/safetensors/floats.js";
import { gaussians, generator } from "./random.js";
import { referenceCode } from "./reference.js";

describe("roundToNearest", () => {
  const rows = 7;
  const n = 96;
  const weight = gaussians(rows * n, generator(3), 0.05);
  const importance = Float64Array.from(gaussians(n, generator(4)), (x) => x ** 4);

  const weightedError = (values: Float32Array, h?: Float64Array) => values.reduce((sum, y, i) => sum + (h?.[i % n] ?? 1) * (weight[i] - y) ** 2, 0);

  it.each(BITS.flatMap((bits) => [true, false].flatMap((symmetric) => [true, false].map((search) => ({ bits, symmetric, search })))))(
    "gives each weight its nearest code: %o",
    ({ bits, symmetric, search }) => {
      const scheme: QuantScheme = { bits, groupSize: 32, symmetric, scaleDtype: "F16" };
      const { codes, scales, zeros, dequantized } = roundToNearest(weight, rows, n, scheme, search, importance);
      for (let i = 0; i < rows * n; i++) {
        const k = Math.floor(i / 32);
        expect(codes[i]).toBe(referenceCode(weight[i], { scale: scales[k], zero: zeros[k] }, scheme));
        expect(dequantized[i]).toBe(Math.fround(scales[k] * (codes[i] - zeros[k])));
      }
    },
  );

  it.each([{ offsets: "float", scaleDtype: "BF16" }, { offsets: "float", scaleDtype: "F16" }, { offsets: "super-block", scaleDtype: "F16" }] as const)(
    "gives each weight its nearest code where grids have offsets: %o", ({ offsets: kind, scaleDtype }) => {
      const scheme: QuantScheme = { bits: 4, groupSize: 12, symmetric: false, scaleDtype, offsets: kind };
      for (const search of [true, false]) {
        const { codes, scales, zeros, offsets, dequantized } = roundToNearest(weight, rows, n, scheme, search, importance);
        for (let i = 0; i < rows * n; i++) {
          const k = Math.floor(i / 12);
          const grid = { scale: scales[k], zero: zeros[k], offset: offsets![k] };
          expect(codes[i]).toBe(referenceCode(weight[i], grid, scheme));
          // A reader's two steps: the product is exact.
          expect(dequantized[i]).toBe(Math.fround(Math.fround(scales[k] * codes[i]) + offsets![k]));
        }
        expect(new Set(zeros)).toEqual(new Set([0]));
      }
    },
  );

  it("keeps the scales and offsets of super-blocks on their steps, which float16 holds", () => {
    const scheme: QuantScheme = { bits: 4, groupSize: 12, symmetric: false, scaleDtype: "F16", offsets: "super-block" };
    // Of nothing, of nothing below zero, and with some that are larger by far.
    for (const values of [weight, weight.map(() => 0), weight.map(Math.abs), weight.map((w, i) => (i % 90 === 7 ? 1000 * w : w)), weight.map((w) => w * 1e-6)]) {
      const { scales, offsets, steps } = roundToNearest(values, rows, n, scheme, true);
      expect(steps).toEqual(roundAllToDtype(steps!, "F16"));
      scales.forEach((scale, k) => {
        const [d, dmin] = steps!.subarray(2 * Math.floor(k / 8));
        expect(scale / d).toBe(Math.min(Math.max(Math.round(scale / d), 1), 63));
        expect(-offsets![k] / dmin).toBe(Math.min(Math.max(Math.round(-offsets![k] / dmin), 0), 63));
      });
    }
  });

  it("takes the scales from the maxima when it does not search", () => {
    const { scales, zeros } = roundToNearest(Float32Array.of(-1.5, 0.3, 0.1, 3), 1, 4, { bits: 4, groupSize: 2, symmetric: true, scaleDtype: "F32" }, false);
    expect([...scales]).toEqual([Math.fround(0.2), Math.fround(0.4)]);
    expect([...zeros]).toEqual([8, 8]);
  });

  it("loses less with a search, by the weights it was given", () => {
    const scheme: QuantScheme = { bits: 3, groupSize: 48, symmetric: true, scaleDtype: "F16" };
    const plain = roundToNearest(weight, rows, n, scheme, false).dequantized;
    const searched = roundToNearest(weight, rows, n, scheme, true).dequantized;
    const weighted = roundToNearest(weight, rows, n, scheme, true, importance).dequantized;
    expect(weightedError(searched)).toBeLessThan(weightedError(plain));
    expect(weightedError(weighted, importance)).toBeLessThan(weightedError(searched, importance));
  });

  it("has no error left on weights that lie on the grid", () => {
    const scheme: QuantScheme = { bits: 4, groupSize: 16, symmetric: false, scaleDtype: "F16" };
    const onGrid = Float32Array.from({ length: 32 }, (_, i) => 0.25 * ((i % 16) - 5));
    expect(roundToNearest(onGrid, 2, 16, scheme, true).dequantized).toEqual(onGrid);
  });

  it("stays finite where the scale's dtype runs out", () => {
    const scheme: QuantScheme = { bits: 4, groupSize: 2, symmetric: true, scaleDtype: "F16" };
    const { scales, dequantized } = roundToNearest(Float32Array.of(1e30, -1e30, 1e-30, -1e-38), 2, 2, scheme, true);
    expect(scales[0]).toBe(65504);
    expect([...dequantized]).toEqual([7 * 65504, -8 * 65504, -0, -0]);
  });

  it.each([{ groupSize: 32 }, { groupSize: 32, offsets: "float" }, { groupSize: 12, offsets: "super-block" }] as const)("is what dequantize reads back: %o", (grid) => {
    const scheme: QuantScheme = { bits: 4, symmetric: false, scaleDtype: "BF16", ...grid };
    const { dequantized, ...parts } = roundToNearest(weight, rows, n, scheme, true);
    expect(dequantize({ outFeatures: rows, inFeatures: n, scheme, ...parts })).toEqual({ rows, cols: n, data: dequantized });
  });
});

describe("dequantize", () => {
  it("finds each channel's group where groups do not lie side by side", () => {
    const linear = {
      outFeatures: 1, inFeatures: 4, scheme: { bits: 4, groupSize: 2, symmetric: false, scaleDtype: "F16" } as const,
      codes: Uint8Array.of(3, 4, 5, 6), scales: Float32Array.of(0.5, 2), zeros: Uint8Array.of(1, 2), groupOf: Int32Array.of(1, 0, 1, 0),
    };
    expect(dequantize(linear)).toEqual({ rows: 1, cols: 4, data: Float32Array.of(2, 1.5, 6, 2.5) });
  });
});
