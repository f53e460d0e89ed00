import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import type { FormatRun, LinearPlan } from "#src/formats/format.js";
import { gptq } from "#src/formats/gptq.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import type { Tensor } from "#src/safetensors/tensor.js";
import { bySuffix, legible, quantizedLinears } from "./random-linear.js";

const scheme: QuantScheme = { bits: 4, groupSize: 32, symmetric: true, scaleDtype: "F16" };
const linear: QuantizedLinear = {
  outFeatures: 32,
  inFeatures: 64,
  scheme,
  codes: new Uint8Array(32 * 64),
  scales: new Float32Array(64).fill(0.5),
  zeros: new Uint8Array(64).fill(8),
};

function configFor(of: QuantizedLinear): Record<string, unknown> {
  const { bits, groupSize, symmetric } = of.scheme;
  return { quant_method: "gptq", bits, group_size: groupSize, sym: symmetric, checkpoint_format: symmetric ? "gptq" : "gptq_v2" };
}

function plan(name: string, over: Partial<QuantScheme> | string = {}): LinearPlan {
  const shape = { name, outFeatures: 64, inFeatures: 128 };
  return typeof over === "string" ? { ...shape, why: over } : { ...shape, scheme: { ...scheme, ...over } };
}

const run: FormatRun = {
  linears: [plan("model.layers.0.mlp.up_proj"), plan("model.layers.1.mlp.up_proj")],
  groupSize: 32,
  bits: 4,
  symmetric: true,
  method: "gptq",
  lmHead: "lm_head",
  order: "natural",
  damp: 0.01,
  quantizer: "shardsmith:0.1.0",
};

describe("gptq tensors", () => {
  it("come back as they were packed", () => {
    fc.assert(
      fc.property(quantizedLinears({ bits: gptq.bits, scaleDtypes: ["F16"], channels: 32, groupSizes: [32, 64, 96], actOrder: true }), (random) => {
        const tensors = gptq.pack("m", random);
        expect(gptq.layout("m", random, random.scheme, "act")).toEqual(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })));
        expect(legible(gptq.detect(configFor(random))!.unpack("m", bySuffix(tensors)))).toEqual(legible(random));
      }),
      { numRuns: 60 },
    );
  });

  it("come back where single modules have settings of their own", () => {
    fc.assert(
      fc.property(quantizedLinears({ bits: gptq.bits, scaleDtypes: ["F16"], channels: 32, groupSizes: [32, 64, 96], actOrder: true }), (random) => {
        const config = { ...configFor(random), bits: 4, group_size: 128, dynamic: { "+:.*": {} } };
        expect(legible(gptq.detect(config)!.unpack("m", bySuffix(gptq.pack("m", random))))).toEqual(legible(random));
      }),
      { numRuns: 30 },
    );
  });

  it("come back without g_idx, from one group a row, and from bytes that are not aligned", () => {
    const row: QuantizedLinear = { ...linear, scheme: { ...scheme, groupSize: 64 }, scales: new Float32Array(32).fill(2), zeros: new Uint8Array(32).fill(8) };
    const tensors = bySuffix(gptq.pack("m", row));
    tensors.delete("g_idx");
    for (const [suffix, tensor] of tensors) {
      const moved = new Uint8Array(tensor.bytes.length + 1);
      moved.set(tensor.bytes, 1);
      tensors.set(suffix, { ...tensor, bytes: moved.subarray(1) });
    }
    expect(gptq.detect({ quant_method: "gptq", bits: 4, group_size: -1, sym: true })!.unpack("m", tensors)).toEqual(row);
  });

  const packed = bySuffix(gptq.pack("m", linear));
  const gIdx = (at: number, value: number): Tensor => {
    const values = Int32Array.from({ length: 64 }, (_, i) => Math.floor(i / 32));
    values[at] = value;
    return { ...packed.get("g_idx")!, bytes: new Uint8Array(values.buffer) };
  };
  const scales = packed.get("scales")!;
  const hostile: [string, Partial<Record<string, Tensor>>][] = [
    ["m.qweight is F32; expected I32", { qweight: { ...packed.get("qweight")!, dtype: "F32" } }],
    ["m.qweight has shape [256]; expected [any, any]", { qweight: { ...packed.get("qweight")!, shape: [256] } }],
    ["m.qweight has shape [4, 64], which does not hold 64 input channels of 4 bits", { qweight: { ...packed.get("qweight")!, shape: [4, 64] } }],
    ["m.qweight has 4 bytes; its shape needs 1024", { qweight: { ...packed.get("qweight")!, bytes: new Uint8Array(4) } }],
    ["m.qweight has shape [0, 32]: nothing is in it", { qweight: { ...packed.get("qweight")!, shape: [0, 32] } }],
    ["m.qzeros has shape [4, 2]; expected [2, 4]", { qzeros: { ...packed.get("qzeros")!, shape: [4, 2] } }],
    ["m.scales has shape [4, 16]; expected [any, 32]", { scales: { ...scales, shape: [4, 16] } }],
    ["m.scales has 1 groups; 64 input channels in groups of 32 are expected", { scales: { ...scales, shape: [1, 32], bytes: new Uint8Array(64) } }],
    ["m.scales holds Infinity at 0", { scales: { ...scales, bytes: Uint8Array.from([0, 0x7c, ...scales.bytes.subarray(2)]) } }],
    ["m.g_idx holds 2 at 3; there are 2 groups", { g_idx: gIdx(3, 2) }],
    ["m.g_idx holds -1 at 63; there are 2 groups", { g_idx: gIdx(63, -1) }],
    ["m.g_idx is F32; expected I32", { g_idx: { ...gIdx(0, 0), dtype: "F32" } }],
  ];
  it.each(hostile)("refused: %s", (message, over) => {
    const tensors = new Map([...packed, ...(Object.entries(over) as [string, Tensor][])]);
    expect(() => gptq.detect(configFor(linear))!.unpack("m", tensors)).toThrow(new InputError(message));
  });

  it("refused: groups of a fraction of a channel, where single modules have settings of their own", () => {
    const tensors = new Map([...packed, ["scales", { ...scales, shape: [3, 32], bytes: new Uint8Array(192) }] as const]);
    expect(() => gptq.detect({ ...configFor(linear), dynamic: {} })!.unpack("m", tensors)).toThrow(
      new InputError("m.scales has 3 groups; 64 input channels in groups of 32 are expected"),
    );
  });

  it("refused: one is missing", () => {
    const tensors = new Map(packed);
    tensors.delete("qzeros");
    expect(() => gptq.detect(configFor(linear))!.unpack("m", tensors)).toThrow(new InputError("m.qzeros is missing"));
  });
});

describe("gptq refuses", () => {
  it.each([
    [172, 64, 32, "its 172 input channels are not a multiple of the group size 32"],
    [576, 576, 96, "GPTQModel takes groups of 16, 32, 64, 128, 256, 512, 1024 or all input channels, not of 96"],
    [172, 64, 172, "GPTQModel's kernels take input channels in multiples of 32, and it has 172"],
    [64, 172, 32, "GPTQModel's kernels take output channels in multiples of 32, and it has 172"],
    [576, 576, 64, undefined],
    [576, 192, 576, undefined],
  ])("in %i, out %i, group %i: %s", (inFeatures, outFeatures, groupSize, why) => {
    expect(gptq.refusesLinear({ inFeatures, outFeatures }, { ...scheme, groupSize })).toBe(why);
  });

  it("no bits that it holds, in any order", () => {
    expect(gptq.refusesRun({ bits: 3, symmetric: false, order: "act" })).toBeUndefined();
    expect(gptq.refusesRun({ bits: 5, symmetric: true, order: "natural" })).toBe("gptq holds 2, 3, 4 or 8 bits, not 5: GPTQModel keeps 5 to 7 in a layout of its own (gptq_p), which only it reads");
    expect(gptq.refusesRun({ bits: 1, symmetric: true, order: "natural" })).toBe("gptq holds 2, 3, 4 or 8 bits, not 1");
  });

  it("nothing for vLLM's sake, but says so", () => {
    expect(gptq.notes({ inFeatures: 576, outFeatures: 192 }, { ...scheme, groupSize: 64 }).map(({ text }) => text)).toEqual([
      "vLLM's Marlin kernel takes input channels in multiples of 128, and it has 576",
    ]);
    expect(gptq.notes({ inFeatures: 4096, outFeatures: 96 }, { ...scheme, bits: 3, groupSize: 256 }).map(({ text }) => text)).toEqual([
      "vLLM takes gptq in 4 and 8 bits and symmetric only",
      "vLLM takes gptq in groups of 32, 64, 128 or all input channels only",
      "llama.cpp's converter takes gptq in 2, 4 and 8 bits only",
      "vLLM's Marlin kernel takes output channels in multiples of 64, and it has 96",
    ]);
    expect(gptq.notes({ inFeatures: 4096, outFeatures: 4096 }, { ...scheme, groupSize: 128 })).toEqual([]);
    expect(gptq.notes({ inFeatures: 4096, outFeatures: 4096 }, { ...scheme, groupSize: 4096 }).map(({ text }) => text)).toEqual([
      'the kernel that GPTQModel chooses on a CPU takes groups of 32, 64, 128, 256, not of 4096; its other kernels do (backend "gptq_torch")',
    ]);
  });
});

describe("gptq config", () => {
  it("is the same in config.json and quantize_config.json", () => {
    const { quantizationConfig, files } = gptq.config(run);
    expect(JSON.stringify(quantizationConfig)).toBe(
      '{"quant_method":"gptq","bits":4,"group_size":32,"desc_act":false,"act_group_aware":false,"sym":true,"lm_head":false,' +
        '"checkpoint_format":"gptq","pack_dtype":"int32","damp_percent":0.01,"true_sequential":true,"static_groups":false,' +
        '"meta":{"quantizer":["shardsmith:0.1.0"]}}',
    );
    expect(files).toEqual({ "quantize_config.json": quantizationConfig });
  });

  it("leaves out modules that stay as they are, for GPTQModel and for transformers", () => {
    const linears = [
      plan("model.layers.0.mlp.up_proj"),
      plan("model.layers.0.mlp.down_proj", "172"),
      plan("model.layers.1.mlp.up_proj", "no statistics"),
      plan("model.layers.1.mlp.down_proj", "172"),
    ];
    const { quantizationConfig } = gptq.config({ ...run, linears });
    expect(quantizationConfig!["dynamic"]).toEqual({ "-:.*\\.mlp\\.down_proj$": {}, "-:^model\\.layers\\.1\\.mlp\\.up_proj$": {} });
    expect(quantizationConfig!["modules_in_block_to_quantize"]).toEqual([["model.layers.0.mlp.up_proj"]]);
  });

  it("takes the settings of most, and says those of others", () => {
    const linears = [plan("model.layers.0.a", { groupSize: 64 }), plan("model.layers.0.b", { groupSize: 64 }), plan("model.layers.0.c", { bits: 8, groupSize: 128 })];
    const { quantizationConfig } = gptq.config({ ...run, linears, groupSize: 128 });
    expect(quantizationConfig).toMatchObject({ bits: 4, group_size: 64, dynamic: { "+:.*\\.c$": { bits: 8, group_size: 128 } } });
  });

  it("says settings of parts for what vLLM fuses them into as well", () => {
    const names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"];
    const linears = [...names.map((name) => plan(`model.layers.0.${name}`, { bits: 8 })), ...[1, 2].flatMap((layer) => names.map((name) => plan(`model.layers.${layer}.${name}`)))];
    const dynamic = gptq.config({ ...run, linears }).quantizationConfig!["dynamic"] as Record<string, unknown>;
    // vLLM and SGLang match the fused name alone, with Python's re.match.
    const asked = (name: string) => Object.entries(dynamic).find(([key]) => new RegExp(key.slice(2)).exec(name)?.index === 0)?.[1];
    for (const name of [...names, "self_attn.qkv_proj", "mlp.gate_up_proj"]) {
      expect(asked(`model.layers.0.${name}`)).toEqual({ bits: 8, group_size: 32 });
      expect(asked(`model.layers.1.${name}`)).toBeUndefined();
    }
  });

  it("says -1, act order, version 2, and no damping that transformers refuses", () => {
    const linears = [plan("model.layers.0.a", { groupSize: 128, symmetric: false })];
    const { quantizationConfig } = gptq.config({ ...run, linears, groupSize: -1, symmetric: false, order: "act", damp: 0 });
    expect(quantizationConfig).toMatchObject({ group_size: -1, desc_act: true, sym: false, checkpoint_format: "gptq_v2" });
    expect(quantizationConfig).not.toHaveProperty("damp_percent");
    expect(quantizationConfig).not.toHaveProperty("dynamic");
    expect(quantizationConfig).not.toHaveProperty("modules_in_block_to_quantize");
  });

  it("is not detected in others' configs, and refused where it cannot be read", () => {
    const config = { quant_method: "gptq", bits: 4, group_size: 128 };
    expect(gptq.detect({ ...config, quant_method: "awq" })).toBeUndefined();
    expect(gptq.detect(config)).toMatchObject({ format: "gptq", bits: 4, groupSize: 128, symmetric: true });
    expect(() => gptq.detect({ ...config, bits: 6 })).toThrow(new InputError("quantization_config says bits 6; gptq holds 2, 3, 4 or 8"));
    expect(() => gptq.detect({ ...config, group_size: 0 })).toThrow(new InputError("quantization_config says group_size 0; expected -1 or a positive integer"));
    expect(() => gptq.detect({ ...config, checkpoint_format: "marlin" })).toThrow(
      new InputError('quantization_config says checkpoint_format "marlin"; only gptq and gptq_v2 can be read'),
    );
    expect(() => gptq.detect({ ...config, pack_dtype: "int16" })).toThrow(new InputError('quantization_config says pack_dtype "int16"; only int32 can be read'));
  });
});
