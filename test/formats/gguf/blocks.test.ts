import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gguf } from "#src/formats/gguf.js";
import { BLOCK_TYPES } from "#src/formats/gguf/block-types.js";
import { packedIn } from "#src/formats/gguf/blocks.js";
import { halvesOf } from "#src/formats/gguf/halves.js";
import { integerZeros } from "#src/formats/integer-zeros.js";
import { dequantize } from "#src/quantize/dequantize.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { toFloat32 } from "#src/safetensors/floats.js";
import { parseHeader } from "#src/safetensors/header.js";
import { quantizedLinears } from "../random-linear.js";

const FILE = Uint8Array.from(readFileSync(new URL("../../fixtures/gguf/blocks.safetensors", import.meta.url)));
const { tensors } = parseHeader(FILE, FILE.length, "blocks.safetensors");
const fixture = (name: string) => {
  const { start, end, shape } = tensors.get(name)!;
  return { bytes: FILE.slice(start, end), shape };
};

/** -0 and 0 are one weight. */
const weightBytes = (linear: QuantizedLinear) => Buffer.from(dequantize(linear).data.map((weight) => weight + 0).buffer);
const packedOf = (linear: QuantizedLinear) => gguf.pack("l", linear)[0];
const unpackedOf = (linear: QuantizedLinear) => packedIn(BLOCK_TYPES[0]).unpack("l", new Map([["blocks", packedOf(linear)]]));

describe("blocks that PyPI's gguf made", () => {
  // Q4_K has tests of its own.
  it.each(BLOCK_TYPES.filter(({ name }) => name !== "Q4_K"))("of $name are read as gguf reads them, and written the same", (type) => {
    const { name } = type;
    const { bytes } = fixture(`${name}.blocks`);
    const { bytes: theirs, shape: [rows, cols] } = fixture(`${name}.weights`);
    const linear = type.unpack("l", bytes, rows, cols);
    expect(linear.scheme.groupSize).toBe(type.group);
    expect(Buffer.compare(Buffer.from(dequantize(linear).data.buffer), theirs)).toBe(0);
    expect(Buffer.compare(type.pack("l", linear), bytes)).toBe(0);
  });
});

describe("a linear of ours", () => {
  const linears = quantizedLinears({ bits: [4, 8], scaleDtypes: ["F16"], channels: 8, groupSizes: [32, 64, 96, 128], actOrder: false });

  it("is read back with the same codes and weights, its groups cut to blocks", () => {
    fc.assert(fc.property(linears.filter(({ scheme: { symmetric } }) => symmetric), (linear) => {
      const read = unpackedOf(linear);
      expect(Buffer.compare(read.codes, linear.codes)).toBe(0);
      expect(Buffer.compare(weightBytes(read), weightBytes(linear))).toBe(0);
      expect(read.scheme).toEqual({ ...linear.scheme, groupSize: 32 });
    }), { numRuns: 40 });
  });

  it("with zero points keeps them where float16 holds scale · zero, and is refused by name where it does not", () => {
    fc.assert(fc.property(linears.filter(({ scheme: { bits, symmetric } }) => bits === 4 && !symmetric), (linear) => {
      // 7 significant bits, so that 4 more of the zero point fit.
      const short = { ...linear, scales: linear.scales.map((scale) => Math.fround(Math.sign(scale) * 2 ** Math.floor(Math.log2(Math.abs(scale))) * 1.25)) };
      const read = unpackedOf(short);
      expect(read.offsets).toBeUndefined();
      expect(Buffer.compare(weightBytes(read), weightBytes(short))).toBe(0);
    }), { numRuns: 40 });
    const long = { outFeatures: 1, inFeatures: 32, scheme: { bits: 4, groupSize: 32, symmetric: false, scaleDtype: "F16" }, codes: new Uint8Array(32), scales: Float32Array.of(1 + 2 ** -10), zeros: Uint8Array.of(3) } as const;
    expect(() => packedOf(long)).toThrow("the minimums of l: -3.0029296875 at 0 does not fit F16");
  });

  it("with float offsets keeps them", () => {
    const linear = {
      outFeatures: 1, inFeatures: 32, scheme: { bits: 4, groupSize: 32, symmetric: false, scaleDtype: "F16", offsets: "float" },
      codes: Uint8Array.from({ length: 32 }, (_, i) => i % 16), scales: Float32Array.of(0.0625), zeros: new Uint8Array(1), offsets: Float32Array.of(-0.40625),
    } as const;
    expect(unpackedOf(linear)).toEqual(linear);
  });

  it("with scales that float16 cannot hold is refused by name, and codes that do not fit are an error", () => {
    const linear = { outFeatures: 1, inFeatures: 32, scheme: { bits: 4, groupSize: 32, symmetric: true, scaleDtype: "BF16" }, codes: new Uint8Array(32), scales: Float32Array.of(1e-20), zeros: Uint8Array.of(8) } as const;
    expect(() => packedOf(linear)).toThrow("the scales of l: 9.999999682655225e-21 at 0 does not fit F16");
    expect(() => packedOf({ ...linear, scales: Float32Array.of(1), codes: linear.codes.fill(16) })).toThrow("A code does not fit 4 bits");
  });
});

it("values are held where they are a float16, and not where they lie beside one", () => {
  const halves = Uint16Array.from({ length: 1 << 16 }, (_, half) => half).filter((half) => (half & 0x7c00) !== 0x7c00);
  const values = toFloat32(new Uint8Array(halves.buffer), "F16");
  expect(Buffer.compare(Buffer.from(halvesOf(values, "values").buffer), Buffer.from(halves.buffer))).toBe(0);
  for (let i = 0; i < values.length; i += 31) {
    const beside = new Float32Array(Int32Array.of(new Int32Array(values.buffer)[i] + 1).buffer);
    expect(() => halvesOf(beside, "values")).toThrow(`values: ${String(beside[0])} at 0 does not fit F16`);
  }
});

it("blocks that hold no number are refused", () => {
  const bytes = new Uint8Array(36);
  bytes[19] = 0x7c;
  expect(() => packedIn(BLOCK_TYPES[0]).unpack("l", new Map([["blocks", { name: "l.blocks", dtype: "U8", shape: [2, 1, 18], bytes }]])))
    .toThrow("the scales of l: block 1 holds Infinity");
});

describe("integer zero points", () => {
  it("are found where every offset is a multiple, and nowhere else", () => {
    expect(integerZeros(Float32Array.of(0.5, -2, 0), Float32Array.of(-7.5, 4, 0), 4)).toEqual(Uint8Array.of(15, 2, 0));
    for (const [scale, offset] of [[0.5, -8], [0.5, 0.5], [0.5, -0.25], [0, -1], [1, NaN]]) expect(integerZeros(Float32Array.of(scale), Float32Array.of(offset), 4)).toBeUndefined();
  });
});

describe("refusals", () => {
  const run = { bits: 4, symmetric: true, order: "natural" } as const;
  it.each([
    [{ ...run, bits: 3 }, "gguf holds 4 or 8 bits, not 3: no type of llama.cpp's has one scale for a group of 3-bit codes"],
    [{ ...run, bits: 6 }, "gguf holds 4 or 8 bits, not 6: 6 (Q6_K) are for lm_head and the embedding"],
    [{ ...run, bits: 6, table: true } as const, undefined],
    [{ ...run, bits: 8, symmetric: false }, "gguf holds 8 bits symmetric only (Q8_0)"],
    [{ ...run, order: "act" } as const, "gguf has no act order: its groups lie side by side. Take group-aware, or the format gptq"],
    [run, undefined],
  ])("of runs: %j", (given, refusal) => {
    expect(gguf.refusesRun(given)).toBe(refusal);
  });

  it.each([
    [172, 32, "its 172 input channels are not a multiple of 32, the block of Q4_0"],
    [96, 48, "groups of 48 are no whole blocks of 32, as Q4_0 has them"],
    [96, 64, "its 96 input channels are not a multiple of the group size 64"],
    [96, 96, undefined],
  ])("of linears: %d in groups of %d", (inFeatures, groupSize, refusal) => {
    expect(gguf.refusesLinear({ outFeatures: 1, inFeatures }, { bits: 4, symmetric: true, groupSize, scaleDtype: "F16" })).toBe(refusal);
  });
});
