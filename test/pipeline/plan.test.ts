import { describe, expect, it } from "vitest";
import { formatByName } from "#src/formats/formats.js";
import { resolveSettings, type QuantizeSettings } from "#src/pipeline/options.js";
import { planRun, type Plan } from "#src/pipeline/plan.js";
import type { TensorSpec } from "#src/safetensors/tensor.js";

/** Headers of a model with these linears in each of two layers. */
const headers = (linears: Record<string, [number, number]>, dtype: TensorSpec["dtype"] = "BF16"): Map<string, TensorSpec> => {
  const specs: TensorSpec[] = [{ name: "model.embed_tokens.weight", dtype, shape: [100, 64] }, { name: "model.norm.weight", dtype, shape: [64] }];
  for (const layer of [0, 1]) {
    for (const [name, shape] of Object.entries(linears)) specs.push({ name: `model.layers.${String(layer)}.${name}.weight`, dtype, shape });
    specs.push({ name: `model.layers.${String(layer)}.input_layernorm.weight`, dtype, shape: [64] });
  }
  return new Map(specs.map((spec) => [spec.name, spec]));
};
const plan = (tensors: Map<string, TensorSpec>, settings: QuantizeSettings = {}): Plan => {
  const resolved = resolveSettings({ method: "rtn", ...settings });
  return planRun({ config: {}, decoder: undefined, tensors }, resolved, formatByName(resolved.format));
};

describe("the group size", () => {
  it("is 128 where that divides every linear", () => {
    const { groupSize, notices } = plan(headers({ a: [128, 256], b: [256, 128] }));
    expect(groupSize).toBe(128);
    expect(notices.join()).not.toContain("instead of");
  });
  it("is the largest that takes in every linear, and says why", () => {
    const { groupSize, notices, linears } = plan(headers({ a: [128, 576], b: [256, 1536] }));
    expect(groupSize).toBe(64);
    expect(linears.every(({ scheme }) => scheme?.groupSize === 64)).toBe(true);
    expect(notices[0]).toBe("groups of 64 instead of 128, for model.layers.*.a (2): its 576 input channels are not a multiple of the group size 128");
  });
  it("is never larger than asked for", () => {
    expect(plan(headers({ a: [128, 256] }), { groupSize: 32 }).groupSize).toBe(32);
  });
  it("is one scale a row where asked for", () => {
    const { groupSize, linears } = plan(headers({ a: [128, 576] }), { groupSize: -1 });
    expect([groupSize, linears[0].scheme!.groupSize]).toEqual([-1, 576]);
  });
});

it("leaves a linear that no size fits, and says why", () => {
  const { linears, notices } = plan(headers({ a: [64, 64], b: [64, 172] }));
  expect(linears.map(({ name, scheme }) => [name, scheme?.groupSize])).toEqual([
    ["model.layers.0.a", 64], ["model.layers.0.b", undefined], ["model.layers.1.a", 64], ["model.layers.1.b", undefined],
  ]);
  expect(notices).toContain("left as they are: model.layers.*.b (2), because its 172 input channels are not a multiple of the group size 64");
});

it("refuses a run that would quantize nothing", () => {
  expect(() => plan(headers({ a: [64, 172] }))).toThrow("there is nothing to quantize in the gptq format: its 172 input channels are not a multiple of the group size 128");
  expect(() => plan(headers({}))).toThrow("there is nothing to quantize: no layer has a two-dimensional float weight");
});

it("refuses weights that are no floats", () => {
  expect(plan(headers({ a: [64, 64] }, "F32")).linears[0].scheme!.scaleDtype).toBe("F16");
  const tensors = headers({ a: [64, 64] });
  tensors.set("model.layers.0.b.weight", { name: "model.layers.0.b.weight", dtype: "F8_E4M3", shape: [64, 64] });
  expect(plan(tensors).linears.map(({ name }) => name)).not.toContain("model.layers.0.b");
});

it("takes no embedding, norm, router or bias for a linear", () => {
  const { linears } = plan(headers({ "mlp.gate": [8, 64], "self_attn.q_proj": [64, 64], "q_norm": [64, 64], "token_embed": [64, 64] }));
  expect(linears.map(({ name }) => name)).toEqual(["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]);
});

it("writes what lies outside the layers first, then layer by layer, each linear as its packed tensors", () => {
  const { outputs, outputsOf } = plan(headers({ a: [64, 64] }));
  expect(outputs.map(({ name }) => name)).toEqual([
    "model.embed_tokens.weight", "model.norm.weight",
    ...[0, 1].flatMap((layer) => ["a.qweight", "a.qzeros", "a.scales", "a.g_idx", "input_layernorm.weight"].map((name) => `model.layers.${String(layer)}.${name}`)),
  ]);
  expect(outputsOf.get("model.layers.1.a.weight")).toHaveLength(4);
});

it("orders layers by number, not by text", () => {
  const tensors = headers({});
  for (const layer of [10, 9, 2]) tensors.set(`h.${String(layer)}.c.weight`, { name: `h.${String(layer)}.c.weight`, dtype: "F16", shape: [64, 64] });
  expect(plan(tensors).linears.map(({ name }) => name)).toEqual(["h.2.c", "h.9.c", "h.10.c"]);
});

it("counts bits a weight, scales and all", () => {
  // 4 bits, and for each group of 64 a scale of 16 bits and a zero of 4; g_idx: 32 bits for each of 64 inputs, over 64 outputs.
  expect(plan(headers({ a: [64, 64] })).bitsPerWeight).toBeCloseTo(4 + 20 / 64 + 32 / 64, 10);
});

describe("rules for single linears", () => {
  const tensors = headers({ a: [64, 64], b: [64, 64] });
  it("give a linear bits of its own, which are counted", () => {
    const { linears, mix, bitsPerWeight } = plan(tensors, { bitsFor: [{ pattern: "*.b", bits: 8 }] });
    expect(linears.map(({ scheme }) => scheme!.bits)).toEqual([4, 8, 4, 8]);
    expect(mix).toEqual([{ bits: 8, linears: 2 }, { bits: 4, linears: 2 }]);
    expect(bitsPerWeight).toBeCloseTo(6 + (16 + 6) / 64 + 32 / 64, 10);
  });
  it("leave linears as they are, and say so", () => {
    const { linears, notices, outputsOf } = plan(tensors, { keep: ["model.layers.0.*"] });
    expect(linears.map(({ scheme }) => scheme?.bits)).toEqual([undefined, undefined, 4, 4]);
    expect(notices).toContain("left as they are: model.layers.*.a (1), model.layers.*.b (1), because it is to be kept");
    expect(outputsOf.get("model.layers.0.a.weight")).toEqual(["model.layers.0.a.weight"]);
  });
  it("do not make kept linears a reason for smaller groups", () => {
    const { groupSize, notices } = plan(headers({ a: [128, 128], b: [64, 64] }), { keep: ["*.b"] });
    expect(groupSize).toBe(128);
    expect(notices.join()).not.toContain("instead of");
  });
  it("are held to what the format takes", () => {
    expect(() => plan(tensors, { format: "compressed-tensors", bitsFor: [{ pattern: "*.b", bits: 3 }] })).toThrow("compressed-tensors holds 4 or 8 bits, not 3");
    expect(() => plan(tensors, { keep: ["*"] })).toThrow("there is nothing to quantize in the gptq format: it is to be kept");
    expect(plan(tensors, { bits: 3, format: "compressed-tensors", bitsFor: [{ pattern: "*", bits: 8 }] }).mix).toEqual([{ bits: 8, linears: 4 }]);
  });
  it.each([["gptq", "GPTQModel, vLLM and SGLang read several bits in one checkpoint from `dynamic`; transformers does not: for it, take the format compressed-tensors"], ["compressed-tensors", "llama.cpp's converter takes compressed-tensors with one setting for all linears only"]])("are noted where readers of %s differ", (format, note) => {
    expect(plan(tensors, { format, bitsFor: [{ pattern: "*.b", bits: 8 }] }).notices).toContain(note);
    expect(plan(tensors, { format }).notices).not.toContain(note);
  });
});
