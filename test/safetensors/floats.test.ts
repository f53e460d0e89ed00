import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromFloat32, isFloatDtype, roundAllToDtype, roundToDtype, toFloat32 } from "#src/safetensors/floats.js";
import type { FloatDtype } from "#src/safetensors/floats.js";

interface Kind {
  readonly dtype: "F16" | "BF16";
  readonly exponentBits: number;
  readonly mantissaBits: number;
}
const KINDS: Kind[] = [
  { dtype: "F16", exponentBits: 5, mantissaBits: 10 },
  { dtype: "BF16", exponentBits: 8, mantissaBits: 7 },
];

/** IEEE 754's definition, in double arithmetic, which holds every value exactly. */
function decode({ exponentBits, mantissaBits }: Kind, half: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const exponent = (half >>> mantissaBits) % 2 ** exponentBits;
  const fraction = (half % 2 ** mantissaBits) / 2 ** mantissaBits;
  const sign = half >= 0x8000 ? -1 : 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}

/** The nearest of all values by search; ties go to the even bit pattern, and what would round to 2^(bias+1) is infinite. */
function encodeReference(kind: Kind): (value: number) => number {
  const infinity = (2 ** kind.exponentBits - 1) << kind.mantissaBits;
  const positive = Array.from({ length: infinity }, (_, half) => decode(kind, half));
  positive.push(2 ** (2 ** (kind.exponentBits - 1)));
  return (value) => {
    const magnitude = Math.abs(value);
    const sign = Object.is(Math.sign(value), -0) || value < 0 ? 0x8000 : 0;
    let low = 0;
    let high = infinity;
    if (magnitude >= positive[high]) return sign | infinity;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (positive[middle] <= magnitude) low = middle;
      else high = middle;
    }
    const below = magnitude - positive[low];
    const above = positive[high] - magnitude;
    return sign | (below < above || (below === above && low % 2 === 0) ? low : high);
  };
}

const halvesOf = (bytes: Uint8Array<ArrayBuffer>): Uint16Array => new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
const all = Uint16Array.from({ length: 65_536 }, (_, half) => half);

describe.each(KINDS)("$dtype", (kind) => {
  const { dtype } = kind;
  const encode = encodeReference(kind);
  const values = toFloat32(new Uint8Array(all.buffer), dtype);

  test("all 65,536 bit patterns read as IEEE 754 says", () => {
    const wrong = [...all].filter((half) => !Object.is(values[half], decode(kind, half)));
    expect(wrong).toEqual([]);
  });

  test("all are written back as they were; NaNs stay NaN, quiet, with their sign", () => {
    const back = halvesOf(fromFloat32(values, dtype));
    const quiet = 1 << (kind.mantissaBits - 1);
    const wrong = [...all].filter((half) => back[half] !== (Number.isNaN(values[half]) ? half | quiet : half));
    expect(wrong).toEqual([]);
  });

  test("values between two round to the nearer, ties to even", () => {
    const scalar = new Float32Array(1);
    const bits = new Int32Array(scalar.buffer);
    const between: number[] = [];
    for (let half = 0; half < 0x7fff; half++) {
      // The middle of two neighbours is exact in float32; beyond the largest finite value, infinity counts as the next step.
      const next = Number.isFinite(values[half + 1]) ? values[half + 1] : 2 * values[half] - values[half - 1];
      if (!Number.isFinite(values[half])) continue;
      scalar[0] = (values[half] + next) / 2;
      const middle = bits[0];
      for (const step of [-1, 0, 1]) {
        bits[0] = middle + step;
        between.push(scalar[0], -scalar[0]);
      }
    }
    const got = halvesOf(fromFloat32(Float32Array.from(between), dtype));
    const wrong = between.filter((value, i) => got[i] !== encode(value));
    expect(wrong).toEqual([]);
    expect(between.length).toBeGreaterThan(150_000);
  });

  test("any float32 rounds to the nearest, one by one as all at once", () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true }), (value) => {
        const rounded = decode(kind, encode(value));
        expect(roundToDtype(value, dtype)).toBe(rounded);
        expect([...roundAllToDtype(Float32Array.of(value), dtype)]).toEqual([rounded]);
        expect([...halvesOf(fromFloat32(Float32Array.of(value), dtype))]).toEqual([encode(value)]);
      }),
      { numRuns: 5000 },
    );
  });

  test("the extremes", () => {
    expect(roundToDtype(3.5e38, dtype)).toBe(Infinity);
    expect(roundToDtype(-Infinity, dtype)).toBe(-Infinity);
    expect(roundToDtype(NaN, dtype)).toBeNaN();
    expect(roundToDtype(-0, dtype)).toBe(-0);
    expect(roundToDtype(2 ** -149, dtype)).toBe(0);
  });
});

test("known values of float16", () => {
  const known: [number, number][] = [[0x3c00, 1], [0xc000, -2], [0x7bff, 65504], [0x0400, 2 ** -14], [0x0001, 2 ** -24], [0x3555, 0.333251953125]];
  for (const [half, value] of known) expect(toFloat32(new Uint8Array(Uint16Array.of(half).buffer), "F16")[0]).toBe(value);
  expect(roundToDtype(65519.996, "F16")).toBe(65504);
  expect(roundToDtype(65520, "F16")).toBe(Infinity);
});

test("known values of bfloat16", () => {
  expect(roundToDtype(Math.PI, "BF16")).toBe(3.140625);
  expect(roundToDtype(3.4e38, "BF16")).toBe(Infinity);
  expect(roundToDtype(3.38e38, "BF16")).toBe((1 + 126 / 128) * 2 ** 127);
});

test("F32 and F64", () => {
  const values = Float32Array.of(1.5, -0, Infinity, 2 ** -149, Math.PI);
  for (const dtype of ["F32", "F64"] as const) expect(toFloat32(fromFloat32(values, dtype), dtype)).toEqual(values);
  expect([...toFloat32(new Uint8Array(Float64Array.of(Math.PI, 1e300, 1e-300).buffer), "F64")]).toEqual([Math.fround(Math.PI), Infinity, 0]);
  expect(roundToDtype(Math.PI, "F32")).toBe(Math.fround(Math.PI));
});

test.each<FloatDtype>(["F16", "BF16", "F32", "F64"])("%s is read from any offset into memory of its own, and written from any", (dtype) => {
  const values = Float32Array.of(9, 1, -2.5, 0.25).subarray(1);
  const bytes = fromFloat32(values, dtype);
  expect(bytes.buffer.byteLength).toBe(bytes.length);
  for (const offset of [0, 1, 2, 4, 8]) {
    const holder = new Uint8Array(bytes.length + offset);
    holder.set(bytes, offset);
    const read = toFloat32(holder.subarray(offset), dtype);
    expect(read).toEqual(values);
    expect(read.buffer).not.toBe(holder.buffer);
    expect(read.buffer.byteLength).toBe(12);
  }
  expect(() => toFloat32(bytes.subarray(1), dtype)).toThrow(RangeError);
});

test("only four dtypes are floats to us", () => {
  expect((["F16", "BF16", "F32", "F64", "F8_E4M3", "I32", "C64", "BOOL"] as const).map(isFloatDtype)).toEqual([true, true, true, true, false, false, false, false]);
});
