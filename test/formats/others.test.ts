import { describe, expect, it } from "vitest";
import { awq } from "#src/formats/awq.js";
import { compressedTensors } from "#src/formats/compressed-tensors.js";
import type { Format } from "#src/formats/format.js";
import { gptq } from "#src/formats/gptq.js";
import { mlx } from "#src/formats/mlx.js";
import { dequantize } from "#src/quantize/dequantize.js";
import { toFloat32 } from "#src/safetensors/floats.js";
import { packingCases } from "./packing-fixtures.js";

// Linears packed by GPTQModel 7.7 and compressed-tensors 0.20, and quantized by MLX 0.32: ours must be the same to the byte, and read theirs.
const FORMATS: Readonly<Record<string, Format>> = { gptq, gptq_v2: gptq, "compressed-tensors": compressedTensors, awq, mlx };

function configOf(maker: string, bits: number, groupSize: number, symmetric: boolean): Record<string, unknown> {
  switch (maker) {
    case "compressed-tensors": {
      const weights = { num_bits: bits, type: "int", symmetric, strategy: "group", group_size: groupSize };
      return { quant_method: maker, format: "pack-quantized", config_groups: { group_0: { targets: ["Linear"], weights } } };
    }
    case "awq":
      return { quant_method: maker, bits, group_size: groupSize, version: "gemm", zero_point: true };
    case "mlx":
      return { bits, group_size: groupSize };
    default:
      return { quant_method: "gptq", bits, group_size: groupSize, sym: symmetric, checkpoint_format: maker };
  }
}

const cases = packingCases().map((c) => {
  const [maker, bits, group, sym] = c.name.split(".") as [string, string, string, string];
  const config = configOf(maker, Number(bits), Number(group), sym === "sym");
  return { ...c, config, format: FORMATS[maker], written: maker !== "gptq" || sym === "sym" };
});

describe("linears that others packed", () => {
  it("are many", () => expect(cases.length).toBe(36));

  it.each(cases)("$name is read", ({ config, format, packed, codes, zeros, dequantized }) => {
    const linear = format.detect(config)!.unpack("linear", packed);
    if (codes !== undefined) expect(Buffer.compare(linear.codes, codes.bytes)).toBe(0);
    if (zeros !== undefined) expect(Buffer.compare(linear.zeros, zeros.bytes)).toBe(0);
    if (dequantized !== undefined) {
      const theirs = toFloat32(dequantized.bytes, "F32");
      // Not byte by byte: 0 may have either sign.
      expect(dequantize(linear).data.findIndex((weight, i) => weight !== theirs[i])).toBe(-1);
    }
    expect([linear.outFeatures, linear.inFeatures]).toEqual((codes ?? dequantized)!.shape);
  });

  it.each(cases.filter((c) => c.written))("$name is packed the same by us", ({ config, format, packed }) => {
    const linear = format.detect(config)!.unpack("linear", packed);
    const ours = format.pack("linear", linear);
    expect(ours.map((tensor) => tensor.name).sort()).toEqual([...packed.keys()].map((suffix) => `linear.${suffix}`).sort());
    for (const tensor of ours) {
      const theirs = packed.get(tensor.name.slice("linear.".length))!;
      expect([tensor.name, tensor.dtype, tensor.shape]).toEqual([tensor.name, theirs.dtype, theirs.shape]);
      expect([tensor.name, Buffer.compare(tensor.bytes, theirs.bytes)]).toEqual([tensor.name, 0]);
    }
  });
});
