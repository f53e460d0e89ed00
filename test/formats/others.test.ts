import { describe, expect, it } from "vitest";
import { compressedTensors } from "#src/formats/compressed-tensors.js";
import { gptq } from "#src/formats/gptq.js";
import { packingCases } from "./packing-fixtures.js";

// Linears packed by GPTQModel 7.7 and compressed-tensors 0.20: ours must be the same to the byte, and read theirs.
const cases = packingCases().map((c) => {
  const [format, bits, group, sym] = c.name.split(".") as [string, string, string, string];
  const config =
    format === "compressed-tensors"
      ? {
          quant_method: "compressed-tensors",
          format: "pack-quantized",
          config_groups: { group_0: { targets: ["Linear"], weights: { num_bits: Number(bits), type: "int", symmetric: sym === "sym", strategy: "group", group_size: Number(group) } } },
        }
      : { quant_method: "gptq", bits: Number(bits), group_size: Number(group), sym: sym === "sym", checkpoint_format: format };
  return { ...c, config, format: format === "compressed-tensors" ? compressedTensors : gptq, written: format !== "gptq" || sym === "sym" };
});

describe("linears that others packed", () => {
  it("are many", () => expect(cases.length).toBe(23));

  it.each(cases)("$name is read", ({ config, format, packed, codes, zeros }) => {
    const linear = format.detect(config)!.unpack("linear", packed);
    expect(Buffer.compare(linear.codes, codes.bytes)).toBe(0);
    expect(Buffer.compare(linear.zeros, zeros.bytes)).toBe(0);
    expect([linear.outFeatures, linear.inFeatures]).toEqual(codes.shape);
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
