import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import type { FormatRun, LinearPlan } from "#src/formats/format.js";
import { detectFormat } from "#src/formats/formats.js";
import { mlx } from "#src/formats/mlx.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { fromFloat32 } from "#src/safetensors/floats.js";
import type { Tensor } from "#src/safetensors/tensor.js";
import { bySuffix, legible, quantizedLinears } from "./random-linear.js";

const scheme: QuantScheme = { bits: 4, groupSize: 32, symmetric: false, scaleDtype: "BF16" };
const config = { group_size: 32, bits: 4, mode: "affine" };
const linear: QuantizedLinear = {
  outFeatures: 2, inFeatures: 64, scheme,
  codes: Uint8Array.from({ length: 128 }, (_, i) => i % 16),
  scales: Float32Array.of(0.5, -0.25, 2, 1),
  zeros: Uint8Array.of(8, 3, 0, 15),
};

const plan = (name: string, over: Partial<QuantScheme> = {}): LinearPlan => ({ name, outFeatures: 64, inFeatures: 128, scheme: { ...scheme, ...over } });
const run: FormatRun = {
  linears: [plan("model.layers.0.mlp.up_proj"), plan("model.layers.1.mlp.up_proj"), { name: "model.layers.2.mlp.up_proj", outFeatures: 64, inFeatures: 128, why: "kept" }],
  groupSize: 32, bits: 4, symmetric: true, method: "gptq", lmHead: "lm_head", order: "natural", damp: 0.01, quantizer: "shardsmith:0.1.0",
};

describe("mlx tensors", () => {
  it("come back as they were packed, with zero points where biases are multiples of scales", () => {
    fc.assert(
      fc.property(quantizedLinears({ scaleDtypes: ["F16", "BF16"], channels: 3, groupSizes: [32, 64, 128], actOrder: false }), (random) => {
        // Few digits, so that the product with any zero point is held.
        const scales = random.scales.map((scale) => Math.sign(scale) * 2 ** Math.round(Math.log2(Math.abs(scale))));
        const zeros = random.scheme.bits === 8 ? new Uint8Array(random.zeros.length).fill(128) : random.zeros;
        const held = { ...random, scales, zeros, scheme: { ...random.scheme, symmetric: zeros.every((zero) => zero === 1 << (random.scheme.bits - 1)) } };
        const tensors = mlx.pack("m", held);
        expect(mlx.layout("m", held, held.scheme, "natural")).toEqual(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })));
        const packed = mlx.detect({ group_size: held.scheme.groupSize, bits: held.scheme.bits })!;
        expect(legible(packed.unpack("m", bySuffix(tensors)))).toEqual(legible(held));
      }),
      { numRuns: 60 },
    );
  });

  it("come back with offsets", () => {
    const withOffsets: QuantizedLinear = { ...linear, scheme: { ...scheme, offsets: "float" }, zeros: new Uint8Array(4), offsets: Float32Array.of(-3.03125, -1, 0, -15) };
    expect(mlx.detect(config)!.unpack("m", bySuffix(mlx.pack("m", withOffsets)))).toEqual(withOffsets);
  });

  it("hold −scale · zero point as bias", () => {
    const [weight, scales, biases] = mlx.pack("m", linear);
    expect([weight.dtype, weight.shape, new Uint32Array(weight.bytes.buffer, 0, 2)]).toEqual(["U32", [2, 8], Uint32Array.of(0x76543210, 0xfedcba98)]);
    expect(scales.bytes).toEqual(fromFloat32(linear.scales, "BF16"));
    expect(biases.bytes).toEqual(fromFloat32(Float32Array.of(-4, 0.75, -0, -15), "BF16"));
  });

  it("are not made of a product that the dtype does not hold", () => {
    // 129 has eight digits, all that BF16 keeps; three times as much has ten.
    const wrong = { ...linear, scales: Float32Array.of(0.5, 129, 2, 1) };
    expect(() => mlx.pack("m", wrong)).toThrow(new InputError("m: group 1 of row 0 has scale 129 and zero point 3, whose product BF16 cannot hold, as mlx needs it"));
    expect(() => mlx.pack("m", { ...wrong, scheme: { ...scheme, scaleDtype: "F16" } })).not.toThrow();
  });
});

describe("what mlx refuses", () => {
  it("a run in act order", () => {
    for (const bits of [2, 3, 4, 6, 8]) expect(mlx.refusesRun({ bits, symmetric: true, order: "natural" })).toBeUndefined();
    expect(mlx.refusesRun({ bits: 3, symmetric: false, order: "group-aware" })).toBeUndefined();
    expect(mlx.refusesRun({ bits: 4, symmetric: true, order: "act" })).toBe("mlx has no act order: its groups lie side by side. Take group-aware, or the format gptq");
  });

  it.each([
    [7, 128, 64, undefined],
    [7, 80, 32, "its 80 input channels are not a multiple of the group size 32"],
    [7, 256, 256, "MLX takes groups of 32, 64, 128, not of 256"],
  ])("a linear [%i, %i] in groups of %i", (outFeatures, inFeatures, groupSize, why) => {
    expect(mlx.refusesLinear({ outFeatures, inFeatures }, { ...scheme, groupSize })).toBe(why);
  });
});

it("keeps scales in the model's dtype, or in F16 where that is F32", () => {
  expect((["F16", "BF16", "F32"] as const).map((dtype) => mlx.scaleDtype(dtype))).toEqual(["F16", "BF16", "F16"]);
});

describe("mlx's config", () => {
  it("is said twice, as mlx-lm does", () => {
    const { quantizationConfig, configKeys } = mlx.config(run);
    expect(JSON.stringify(quantizationConfig)).toBe('{"group_size":32,"bits":4,"mode":"affine"}');
    expect(configKeys).toEqual({ quantization: quantizationConfig });
  });

  it("says the rotary base and scaling where mlx-lm's older families look for them", () => {
    const keysOf = (model: Record<string, unknown>) => mlx.config(run, model).configKeys;
    const scaled = { rope_theta: 500000, rope_type: "llama3", factor: 8 };
    expect(keysOf({ rope_parameters: { rope_theta: 100000, rope_type: "default" } })).toEqual({ quantization: config, rope_theta: 100000 });
    expect(keysOf({ rope_parameters: scaled })).toEqual({ quantization: config, rope_theta: 500000, rope_scaling: scaled });
    expect(keysOf({ rope_theta: 100000 })).toEqual({ quantization: config });
    // Gemma's, one a kind of layer.
    expect(keysOf({ rope_parameters: { full_attention: scaled } })).toEqual({ quantization: config });
  });

  it("names what differs from the commonest", () => {
    const linears = [plan("model.layers.0.mlp.down_proj", { bits: 8, groupSize: 64 }), ...run.linears];
    expect(mlx.config({ ...run, linears }).quantizationConfig).toEqual({ ...config, "model.layers.0.mlp.down_proj": { group_size: 64, bits: 8 } });
  });

  it("is found under either key", () => {
    expect(detectFormat({ quantization: config })).toMatchObject({ format: "mlx", bits: 4, groupSize: 32 });
    expect(detectFormat({ quantization: config, quantization_config: config })).toMatchObject({ format: "mlx", bits: 4, groupSize: 32 });
    expect(mlx.detect({ quant_method: "gptq", bits: 4, group_size: 32 })).toBeUndefined();
  });

  it("says the settings of single modules", () => {
    const packed = mlx.detect({ ...config, other: { bits: 8, group_size: 64 } })!;
    const other: QuantizedLinear = { ...linear, scheme: { ...scheme, bits: 8, groupSize: 64 }, scales: Float32Array.of(1, 2), zeros: Uint8Array.of(1, 2) };
    const tensors = bySuffix(mlx.pack("m", other));
    expect(packed.unpack("other", tensors)).toEqual(other);
    expect(packed.bitsOf(new Map([...tensors].map(([suffix, { shape }]) => [suffix, shape])))).toBe(8);
    expect(() => packed.unpack("m", tensors)).toThrow(new InputError("m.weight has shape [2, 16]; expected [2, 4]"));
  });

  it.each([
    [{ ...config, bits: 5 }, "config.json: quantization says bits 5; mlx can be read with 2, 3, 4, 6 or 8"],
    [{ ...config, group_size: 16 }, "config.json: quantization says group_size 16; expected 32, 64, 128"],
    [{ ...config, mode: "mxfp4" }, 'config.json: quantization says mode "mxfp4"; of mlx only affine can be read'],
    [{ ...config, a: { bits: 7, group_size: 32 } }, "config.json: quantization of a says bits 7; mlx can be read with 2, 3, 4, 6 or 8"],
  ])("is refused: %o", (wrong, message) => expect(() => mlx.detect(wrong)).toThrow(new InputError(message)));
});

describe("tensors that contradict each other", () => {
  const packed = bySuffix(mlx.pack("m", linear));
  const change = (suffix: string, over: Partial<Tensor>): Map<string, Tensor> => new Map(packed).set(suffix, { ...packed.get(suffix)!, ...over });
  it.each([
    [new Map([...packed].filter(([suffix]) => suffix !== "biases")), "m.biases is missing"],
    [change("weight", { dtype: "BF16" }), "m.weight is BF16; expected U32"],
    [change("biases", { dtype: "F16" }), "m.biases is F16; expected BF16"],
    [change("biases", { shape: [4, 1] }), "m.biases has shape [4, 1]; expected [2, 2]"],
    [change("scales", { bytes: new Uint8Array(8).fill(0xff) }), "m.scales holds NaN at 0"],
    [change("biases", { bytes: new Uint8Array(8).fill(0xff) }), "m.biases holds NaN at 0"],
  ])("are refused: %#", (tensors, message) => expect(() => mlx.detect(config)!.unpack("m", tensors)).toThrow(new InputError(message)));
});
