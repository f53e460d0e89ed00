import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { awq } from "#src/formats/awq.js";
import { compressedTensors } from "#src/formats/compressed-tensors.js";
import { packEightRows } from "#src/formats/eight-rows.js";
import type { FormatRun, LinearPlan } from "#src/formats/format.js";
import { gptq } from "#src/formats/gptq.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import type { Tensor } from "#src/safetensors/tensor.js";
import { bySuffix, legible, quantizedLinears } from "./random-linear.js";

const scheme: QuantScheme = { bits: 4, groupSize: 32, symmetric: false, scaleDtype: "F16" };
const config = { quant_method: "awq", bits: 4, group_size: 32, zero_point: true, version: "gemm" };
const linear = {
  outFeatures: 8, inFeatures: 32, scheme,
  codes: Uint8Array.from({ length: 256 }, (_, i) => i >> 5),
  scales: new Float32Array(8).fill(0.5),
  zeros: Uint8Array.from({ length: 8 }, (_, row) => 15 - row),
};

const plan = (name: string, why?: string): LinearPlan => ({ name, outFeatures: 64, inFeatures: 128, ...(why === undefined ? { scheme } : { why }) });
const run: FormatRun = {
  linears: [plan("model.layers.0.mlp.up_proj"), plan("model.layers.1.mlp.up_proj")],
  groupSize: 32, bits: 4, symmetric: false, method: "gptq", lmHead: "lm_head", order: "natural", damp: 0.01, quantizer: "shardsmith:0.1.0",
};

describe("awq tensors", () => {
  it("come back as they were packed", () => {
    fc.assert(
      fc.property(quantizedLinears({ bits: [4], scaleDtypes: ["F16"], channels: 8, groupSizes: [7, 32, 64, 96], actOrder: false }), (random) => {
        const tensors = awq.pack("m", random);
        expect(awq.layout("m", random, random.scheme, "natural")).toEqual(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })));
        const { groupSize } = random.scheme;
        const packed = awq.detect({ ...config, group_size: groupSize === random.inFeatures ? -1 : groupSize })!;
        expect(legible(packed.unpack("m", bySuffix(tensors)))).toEqual(legible(random));
      }),
      { numRuns: 60 },
    );
  });

  it("hold rows 0 2 4 6 1 3 5 7 in a word, the first in the lowest bits", () => {
    const [qweight, qzeros] = awq.pack("m", linear);
    expect(new Uint32Array(qweight.bytes.buffer)).toEqual(new Uint32Array(32).fill(0x75316420));
    expect(new Uint32Array(qzeros.bytes.buffer)).toEqual(Uint32Array.of(0x8ace9bdf));
  });

  it("hold each code in the word of its column and its eight rows, whatever the size", () => {
    const [rows, cols] = [8 * 35, 70];
    const codes = Uint8Array.from({ length: rows * cols }, (_, i) => (i * 2654435761) >>> 28);
    const words = packEightRows(codes, rows, cols);
    expect(words).toHaveLength((cols * rows) / 8);
    const nibbles = [0, 2, 4, 6, 1, 3, 5, 7];
    const wrong = [...codes].findIndex((code, i) => {
      const row = Math.floor(i / cols);
      return ((words[(i % cols) * (rows / 8) + (row >> 3)] >>> (4 * nibbles.indexOf(row % 8))) & 15) !== code;
    });
    expect(wrong).toBe(-1);
  });

  it("cannot be made of codes that do not fit", () => {
    expect(() => awq.pack("m", { ...linear, codes: linear.codes.with(9, 16) })).toThrow("A code does not fit 4 bits");
  });
});

describe("what awq refuses", () => {
  const natural = { bits: 4, symmetric: false, order: "natural" } as const;
  it.each([
    [natural, undefined],
    [{ ...natural, symmetric: true, order: "group-aware" as const }, undefined],
    [{ ...natural, bits: 6 }, "awq holds 4 bits, not 6"],
    [{ ...natural, order: "act" as const }, "awq has no act order: its groups lie side by side. Take group-aware, or the format gptq"],
    [{ ...natural, lmHead: 4 }, "awq leaves lm_head as it is: transformers takes no packed one. Take the format gptq or compressed-tensors for that"],
  ])("a run: %o", (of, why) => expect(awq.refusesRun(of)).toBe(why));

  it.each([
    [64, 128, 32, undefined],
    [8, 80, 80, undefined],
    [64, 80, 32, "its 80 input channels are not a multiple of the group size 32"],
    [64, 512, 256, "awq's readers take groups of 32, 64, 128 or all input channels, not of 256"],
    [12, 64, 32, "awq packs output channels by 8, and it has 12"],
  ])("a linear [%i, %i] in groups of %i", (outFeatures, inFeatures, groupSize, why) => {
    expect(awq.refusesLinear({ outFeatures, inFeatures }, { ...scheme, groupSize })).toBe(why);
  });

  it.each([awq, gptq, compressedTensors])("a linear with offsets: $name", (format) => {
    expect(format.refusesLinear({ outFeatures: 32, inFeatures: 32 }, { ...scheme, offsets: "float" })).toBe(
      `${format.name} holds zero points as integers, and its groups start at offsets that are no multiples of their scales`,
    );
  });
});

it("says which programs are particular", () => {
  expect(awq.notes({ outFeatures: 64, inFeatures: 128 }, scheme)).toEqual([]);
  expect(awq.notes({ outFeatures: 40, inFeatures: 64 }, { ...scheme, groupSize: 64 }).map(({ program, text }) => [program, text])).toEqual([
    ["vLLM", "vLLM's Marlin kernel takes input channels in multiples of 128, and it has 64"],
    ["vLLM", "vLLM's Marlin kernel takes output channels in multiples of 64, and it has 40"],
  ]);
  expect(awq.notes({ outFeatures: 64, inFeatures: 256 }, { ...scheme, groupSize: 256 }).map(({ program, text }) => [program, text])).toEqual([
    ["mlx-lm", "mlx-lm takes groups of 32, 64, 128 only, not one scale a row"],
  ]);
});

describe("awq's config", () => {
  it("is AutoAWQ's", () => {
    expect(JSON.stringify(awq.config(run).quantizationConfig)).toBe(
      '{"quant_method":"awq","version":"gemm","bits":4,"group_size":32,"zero_point":true,"modules_to_not_convert":null,"meta":{"quantizer":["shardsmith:0.1.0"]}}',
    );
  });

  it("names what is not quantized to transformers and vLLM, and to GPTQModel", () => {
    const linears = [...run.linears, plan("model.layers.0.mlp.down_proj", "kept"), plan("model.layers.1.mlp.down_proj", "kept"), plan("model.layers.2.mlp.up_proj", "kept")];
    expect(awq.config({ ...run, linears }).quantizationConfig).toMatchObject({
      modules_to_not_convert: ["mlp.down_proj", "model.layers.2.mlp.up_proj"],
      dynamic: { "-:.*\\.mlp\\.down_proj$": {}, "-:^model\\.layers\\.2\\.mlp\\.up_proj$": {} },
    });
  });

  it("is read as AutoAWQ and llm-awq word it", () => {
    expect(awq.detect({ quant_method: "gptq" })).toBeUndefined();
    expect(awq.detect({ quant_method: "awq", w_bit: 4, q_group_size: 128, zero_point: true, version: "GEMM" })).toMatchObject({ format: "awq", bits: 4, groupSize: 128 });
  });

  it.each([
    [{ ...config, bits: 8 }, "quantization_config says bits 8; awq holds 4"],
    [{ ...config, group_size: 0 }, "quantization_config says group_size 0; expected -1 or a positive integer"],
    [{ ...config, version: "gemv" }, 'quantization_config says version "gemv"; of awq only gemm can be read'],
    [{ ...config, zero_point: false }, "quantization_config says zero_point false; awq can only be read with zero points"],
  ])("is refused: %o", (wrong, message) => expect(() => awq.detect(wrong)).toThrow(new InputError(message)));
});

describe("tensors that contradict each other", () => {
  const packed = bySuffix(awq.pack("m", linear));
  const change = (suffix: string, over: Partial<Tensor>): Map<string, Tensor> => new Map(packed).set(suffix, { ...packed.get(suffix)!, ...over });
  it.each([
    [new Map([...packed].filter(([suffix]) => suffix !== "qzeros")), "m.qzeros is missing"],
    [change("qweight", { dtype: "F32" }), "m.qweight is F32; expected I32"],
    [change("qweight", { shape: [32] }), "m.qweight has shape [32]; expected [any, any]"],
    [change("qzeros", { shape: [2, 1] }), "m.qzeros has shape [2, 1]; expected [1, 1]"],
    [change("scales", { shape: [1, 16] }), "m.scales has shape [1, 16]; expected [1, 8]"],
    [change("scales", { bytes: new Uint8Array(16).fill(0xff) }), "m.scales holds NaN at 0"],
  ])("are refused: %#", (tensors, message) => expect(() => awq.detect(config)!.unpack("m", tensors)).toThrow(message));

  it("are refused where their channels make no whole groups", () => {
    expect(() => awq.detect({ ...config, group_size: 24 })!.unpack("m", packed)).toThrow(
      new InputError("m.qweight has shape [32, 1]; its 32 input channels are not a multiple of the group size 24"),
    );
  });
});
