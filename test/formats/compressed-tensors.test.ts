import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { compressedTensors } from "#src/formats/compressed-tensors.js";
import type { FormatRun, LinearPlan } from "#src/formats/format.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import type { Tensor } from "#src/safetensors/tensor.js";
import { bySuffix, legible, quantizedLinears } from "./random-linear.js";

const scheme: QuantScheme = { bits: 4, groupSize: 16, symmetric: false, scaleDtype: "BF16" };
const linear: QuantizedLinear = {
  outFeatures: 12,
  inFeatures: 48,
  scheme,
  codes: new Uint8Array(12 * 48).fill(3),
  scales: new Float32Array(36).fill(0.5),
  zeros: new Uint8Array(36).fill(5),
};

function configFor({ bits, groupSize, symmetric }: QuantScheme): Record<string, unknown> {
  const weights = { num_bits: bits, type: "int", symmetric, strategy: "group", group_size: groupSize };
  return { quant_method: "compressed-tensors", format: "pack-quantized", config_groups: { group_0: { targets: ["Linear"], weights } } };
}

function plan(name: string, over: Partial<QuantScheme> | string = {}): LinearPlan {
  const shape = { name, outFeatures: 64, inFeatures: 128 };
  return typeof over === "string" ? { ...shape, why: over } : { ...shape, scheme: { ...scheme, groupSize: 32, symmetric: true, ...over } };
}

const run: FormatRun = {
  linears: [plan("model.layers.0.a"), plan("model.layers.0.b", "172"), plan("model.layers.1.a"), plan("model.layers.1.b", "172")],
  groupSize: 32,
  bits: 4,
  symmetric: true,
  method: "gptq",
  lmHead: "lm_head",
  order: "group-aware",
  damp: 0.01,
  quantizer: "shardsmith:0.1.0",
};

describe("compressed-tensors tensors", () => {
  it("come back as they were packed", () => {
    const linears = quantizedLinears({ bits: [4, 8], scaleDtypes: ["F16", "BF16", "F32"], channels: 3, groupSizes: [7, 16, 32, 43], actOrder: false });
    fc.assert(
      fc.property(linears, (random) => {
        const tensors = compressedTensors.pack("m", random);
        expect(compressedTensors.layout("m", random, random.scheme, "natural")).toEqual(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })));
        const read = compressedTensors.detect(configFor(random.scheme))!.unpack("m", bySuffix(tensors));
        expect(legible(read)).toEqual(legible(random));
      }),
    );
  });

  it("come back from one group a row", () => {
    const row: QuantizedLinear = { ...linear, scheme: { ...scheme, groupSize: 48 }, scales: new Float32Array(12).fill(2), zeros: new Uint8Array(12).fill(1) };
    const { quantizationConfig } = compressedTensors.config({ ...run, groupSize: -1, linears: [{ ...row, name: "m" }] });
    expect(compressedTensors.detect(quantizationConfig!)!.unpack("m", bySuffix(compressedTensors.pack("m", row)))).toEqual(row);
  });

  const packed = bySuffix(compressedTensors.pack("m", linear));
  const part = (suffix: string): Tensor => packed.get(suffix)!;
  const shape = (out: bigint, inputs: bigint): Tensor => ({ ...part("weight_shape"), bytes: new Uint8Array(new BigInt64Array([out, inputs]).buffer) });
  const hostile: [string, Record<string, Tensor>][] = [
    ["m.weight_shape is [-1, 48]; expected two positive sizes", { weight_shape: shape(-1n, 48n) }],
    ["m.weight_shape is I32; expected I64", { weight_shape: { ...part("weight_shape"), dtype: "I32" } }],
    ["m.weight_packed has shape [12, 6]; expected [13, any]", { weight_shape: shape(13n, 48n) }],
    ["m.weight_packed has shape [12, 6] and weight_scale [12, 3]; for a weight of [12, 480] no config group makes such", { weight_shape: shape(12n, 480n) }],
    ["m.weight_scale has shape [3, 12]; expected [12, any]", { weight_scale: { ...part("weight_scale"), shape: [3, 12] } }],
    ["m.weight_scale is I32; expected F16 or BF16 or F32", { weight_scale: { ...part("weight_scale"), dtype: "I32" } }],
    ["m.weight_scale holds NaN at 1", { weight_scale: { ...part("weight_scale"), bytes: part("weight_scale").bytes.slice().fill(0xff, 2, 4) } }],
    ["m.weight_zero_point has shape [3, 2]; expected [2, 3]", { weight_zero_point: { ...part("weight_zero_point"), shape: [3, 2] } }],
  ];
  it.each(hostile)("refused: %s", (message, over) => {
    const tensors = new Map([...packed, ...Object.entries(over)]);
    expect(() => compressedTensors.detect(configFor(scheme))!.unpack("m", tensors)).toThrow(new InputError(message));
  });

  it("refused: zero points are missing", () => {
    const tensors = new Map(packed);
    tensors.delete("weight_zero_point");
    expect(() => compressedTensors.detect(configFor(scheme))!.unpack("m", tensors)).toThrow(new InputError("m.weight_zero_point is missing"));
  });
});

describe("compressed-tensors refuses", () => {
  it("bits that its readers do not take, and act order", () => {
    const asked = { bits: 4, symmetric: true, order: "natural" } as const;
    expect(compressedTensors.refusesRun(asked)).toBeUndefined();
    expect(compressedTensors.refusesRun({ ...asked, bits: 2 })).toBe("compressed-tensors holds 4 or 8 bits, not 2");
    expect(compressedTensors.refusesRun({ ...asked, bits: 6 })).toBe("compressed-tensors holds 4 or 8 bits, not 6: its readers pack codes that do not fill a word in two ways, by their version");
    expect(compressedTensors.refusesRun({ ...asked, order: "act" })).toBe(
      "compressed-tensors has no act order: its groups lie side by side. Take group-aware, or the format gptq",
    );
  });

  it("groups that do not divide, and nothing else of shapes", () => {
    expect(compressedTensors.refusesLinear({ inFeatures: 172, outFeatures: 64 }, { ...scheme, groupSize: 32 })).toBe(
      "its 172 input channels are not a multiple of the group size 32",
    );
    expect(compressedTensors.refusesLinear({ inFeatures: 172, outFeatures: 13 }, { ...scheme, groupSize: 172 })).toBeUndefined();
  });

  it("nothing for single readers' sake, but says so", () => {
    expect(compressedTensors.notes({ inFeatures: 172, outFeatures: 13 }, { ...scheme, groupSize: 43 }).map(({ text }) => text)).toEqual([
      "transformers 5 with compressed-tensors 0.20 loads asymmetric weights only with CompressedTensorsConfig(dequantize=True)",
      "vLLM takes compressed-tensors in groups of 32, 64, 128 or all input channels only",
      "vLLM's Marlin kernel takes input channels in multiples of 128, and it has 172",
      "vLLM's Marlin kernel takes output channels in multiples of 64, and it has 13",
    ]);
    expect(compressedTensors.notes({ inFeatures: 256, outFeatures: 64 }, { ...scheme, symmetric: true, groupSize: 128 })).toEqual([]);
  });

  it("scales of another dtype than the model's", () => {
    expect([compressedTensors.scaleDtype("BF16"), compressedTensors.scaleDtype("F16")]).toEqual(["BF16", "F16"]);
  });
});

describe("compressed-tensors config", () => {
  it("is the smallest that old and new readers take", () => {
    expect(compressedTensors.config(run).files).toEqual({});
    expect(JSON.stringify(compressedTensors.config(run).quantizationConfig)).toBe(
      '{"quant_method":"compressed-tensors","format":"pack-quantized","quantization_status":"compressed",' +
        '"ignore":["model.layers.0.b","model.layers.1.b","lm_head"],"config_groups":{"group_0":{"targets":["Linear"],' +
        '"weights":{"num_bits":4,"type":"int","symmetric":true,"strategy":"group","group_size":32}}}}',
    );
  });

  it("has a group more where settings differ, and says -1 as channel", () => {
    const linears = [plan("model.layers.0.a"), plan("model.layers.0.c", { bits: 8 }), plan("model.layers.1.a"), plan("model.layers.1.c")];
    const { quantizationConfig } = compressedTensors.config({ ...run, linears });
    expect(quantizationConfig!["config_groups"]).toMatchObject({
      group_0: { targets: ["Linear"], weights: { num_bits: 4 } },
      group_1: { targets: ["re:^model\\.layers\\.0\\.c$"], weights: { num_bits: 8 } },
    });
    const rows = compressedTensors.config({ ...run, groupSize: -1, linears: [plan("model.layers.0.a", { groupSize: 128 })] });
    expect(rows.quantizationConfig!["config_groups"]).toEqual({
      group_0: { targets: ["Linear"], weights: { num_bits: 4, type: "int", symmetric: true, strategy: "channel" } },
    });
  });

  const config = configFor({ ...scheme, symmetric: true });
  const withWeights = (weights: object): Record<string, unknown> => ({ ...config, config_groups: { g: { weights } } });
  it.each([
    [{ ...config, format: "marlin-24" }, 'quantization_config says format "marlin-24"; only pack-quantized can be read'],
    [{ ...config, config_groups: {} }, "quantization_config has no config_groups"],
    [withWeights({ num_bits: 3 }), 'quantization_config.config_groups.g has weights of "int" in 3 bits; only int in 4 or 8 can be read'],
    [withWeights({ num_bits: 8, type: "float" }), 'quantization_config.config_groups.g has weights of "float" in 8 bits; only int in 4 or 8 can be read'],
    [withWeights({ num_bits: 4, strategy: "tensor" }), 'quantization_config.config_groups.g has strategy "tensor"; only group and channel can be read'],
    [withWeights({ num_bits: 4, group_size: 0 }), "quantization_config.config_groups.g has group_size 0; expected a positive integer"],
    [{ ...config, config_groups: { g: { weights: { num_bits: 4, group_size: -1 }, input_activations: {} } } }, "quantization_config.config_groups.g quantizes activations, which cannot be read"],
  ])("refused: %j", (broken, message) => {
    expect(() => compressedTensors.detect(broken)).toThrow(new InputError(message));
  });

  it("is not detected in others' configs", () => {
    expect(compressedTensors.detect({ quant_method: "gptq" })).toBeUndefined();
    expect(compressedTensors.detect(config)).toMatchObject({ format: "compressed-tensors", bits: 4, groupSize: 16, symmetric: true });
  });
});
