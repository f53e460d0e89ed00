import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { ModelToWrite } from "#src/formats/format.js";
import { gguf } from "#src/formats/gguf.js";
import { ARCHITECTURES } from "#src/formats/gguf/architectures.js";
import { modelKeys } from "#src/formats/gguf/model-keys.js";
import { readGguf } from "#src/formats/gguf/read-header.js";
import { ropeFactors } from "#src/formats/gguf/rope-keys.js";
import { ggufName } from "#src/formats/gguf/tensor-names.js";
import { decoderOf } from "#src/model/decoder-of.js";
import type { Decoder } from "#src/model/decoder.js";
import { dequantize } from "#src/quantize/dequantize.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { rowsInOrder } from "#src/quantize/rows-in-order.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import { toFloat32, fromFloat32 } from "#src/safetensors/floats.js";
import type { TensorSpec } from "#src/safetensors/tensor.js";

const container = gguf.container!;
const fixture = (path: string) => readFileSync(new URL(`../../fixtures/${path}`, import.meta.url));
const configOf = (family: string, changes: Record<string, unknown> = {}) => {
  const config = { ...JSON.parse(fixture(`models/${family}/config.json`).toString()) as Record<string, unknown>, ...changes };
  return { config, decoder: decoderOf(config, "config.json") };
};
/** What no reader of gemma3 lacks. */
const GEMMA = { query_pre_attn_scalar: 12 };

describe("keys", () => {
  const keysOf = (family: string, changes?: Record<string, unknown>) => {
    const { decoder } = configOf(family, changes);
    const keys = modelKeys(decoder, ARCHITECTURES.get(decoder.family)!, { fileType: 2, quantizer: "shardsmith:1" });
    return Object.fromEntries(keys.map(([name, value]) => [name, "value" in value ? value.value : value]));
  };

  it("of a Llama", () => {
    expect(keysOf("llama")).toEqual({
      "general.architecture": "llama", "general.type": "model", "general.quantized_by": "shardsmith:1", "general.file_type": 2, "general.quantization_version": 2,
      "llama.block_count": 2, "llama.context_length": 64, "llama.embedding_length": 32, "llama.feed_forward_length": 48,
      "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.attention.key_length": 8, "llama.attention.value_length": 8,
      "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.vocab_size": 96, "llama.rope.dimension_count": 8, "llama.rope.freq_base": 10_000,
    });
  });

  it("of scaled ropes", () => {
    expect(keysOf("llama", { rope_parameters: { rope_type: "linear", rope_theta: 500, factor: 4 } })).toMatchObject({ "llama.rope.freq_base": 500, "llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4 });
    const yarn = { rope_type: "yarn", rope_theta: 500, factor: 4, original_max_position_embeddings: 16, beta_fast: 30 };
    expect(keysOf("qwen3", { rope_parameters: yarn })).toMatchObject({
      "qwen3.rope.scaling.type": "yarn", "qwen3.rope.scaling.factor": 4, "qwen3.rope.scaling.original_context_length": 16, "qwen3.rope.scaling.yarn_beta_fast": 30, "qwen3.rope.scaling.yarn_beta_slow": 1,
    });
    expect(keysOf("qwen3", { rope_parameters: yarn })).not.toHaveProperty(["qwen3.rope.scaling.attn_factor"]);
    expect(keysOf("qwen3", { rope_parameters: { ...yarn, attention_factor: 2 } })["qwen3.rope.scaling.attn_factor"]).toBeCloseTo(2 / (0.1 * Math.log(4) + 1), 6);
  });

  it("of windows: a shorter context where the reader has none, and a pattern in gemma3", () => {
    expect(keysOf("mistral", { sliding_window: 7 })["llama.context_length"]).toBe(7);
    expect(keysOf("gemma3-text", GEMMA)).toMatchObject({
      "gemma3.context_length": 64, "gemma3.attention.sliding_window": 6, "gemma3.attention.sliding_window_pattern": 2,
      "gemma3.rope.freq_base": 5000, "gemma3.rope.freq_base_swa": 100, "gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 2,
    });
  });

  it("llama3's frequencies are divided by factors, from 1 to the whole", () => {
    const scaled = { rope_type: "llama3", rope_theta: 10_000, factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 };
    const factors = ropeFactors(configOf("llama", { rope_parameters: scaled }).decoder.layer(0))!;
    const turns = [0, 1, 2, 3].map((i) => 16 * 10_000 ** (-i / 4) / (2 * Math.PI));
    const expected = turns.map((turn) => 1 / ((kept) => (1 - kept) / 8 + kept)(Math.min(Math.max((turn - 1) / 3, 0), 1)));
    for (const [i, factor] of factors.entries()) expect(factor).toBeCloseTo(expected[i], 5);
    expect(ropeFactors(configOf("llama").decoder.layer(0))).toBeUndefined();
  });
});

describe("refused by name", () => {
  it.each<[string, Record<string, unknown>, string | undefined]>([
    ["llama", {}, undefined], ["llama-biases", {}, undefined], ["mistral", {}, undefined], ["qwen2", {}, undefined], ["qwen3", {}, undefined], ["gemma3-text", GEMMA, undefined],
    ["llama", { hidden_act: "gelu" }, "llama.cpp's llama computes silu, not gelu"],
    ["qwen3", { attention_bias: true }, "llama.cpp's qwen3 has no biases on o_proj"],
    ["llama", { rope_parameters: { rope_type: "longrope", short_factor: [1, 1, 1, 1], long_factor: [1, 1, 1, 1] } }, "llama.cpp's llama cannot choose between longrope's factors by the length of a sequence"],
    ["qwen2", { rope_parameters: { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 } }, "llama.cpp's qwen2 reads no factors for single frequencies, which rope_type llama3 needs"],
    ["llama", { rope_parameters: { rope_type: "yarn", factor: 4, truncate: false } }, "llama.cpp's llama knows yarn with truncate only"],
    ["gemma3-text", {}, "llama.cpp's gemma3 scales attention by 0.28867513459481287, not 0.22360679774997896 (query_pre_attn_scalar)"],
    ["gemma3-text", { ...GEMMA, final_logit_softcapping: 30 }, "llama.cpp's gemma3 does not cap logits (final_logit_softcapping)"],
    ["gemma3-text", { ...GEMMA, layer_types: ["sliding_attention", "full_attention", "full_attention"] }, "llama.cpp's gemma3 has every n-th layer see all, and these do: 1, 2"],
    ["gemma3-text", { ...GEMMA, sliding_window: null }, "llama.cpp's gemma3 has one rope for all layers that see all, and these have several"],
  ])("%s with %j", (family, changes, refusal) => {
    expect(container.refusesModel({ ...configOf(family, changes), tensors: new Map() })).toBe(refusal);
  });

  it("families that are not known", () => {
    expect(container.refusesModel({ config: { model_type: "gpt2" }, decoder: undefined, tensors: new Map() }))
      .toBe("gguf is written for llama, mistral, qwen2, qwen3, gemma3_text; this model is gpt2");
  });
});

it("tensors have llama.cpp's names, and those that the decoder does not use have none", () => {
  const { decoder } = configOf("gemma3-text");
  expect(["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers.2.self_attn.q_proj.weight", "model.layers.2.self_attn.q_norm.weight",
    "model.layers.0.post_attention_layernorm.weight", "model.layers.0.pre_feedforward_layernorm.weight", "model.layers.0.post_feedforward_layernorm.weight"].map((name) => ggufName(name, decoder)))
    .toEqual(["token_embd.weight", "output_norm.weight", "output.weight", "blk.2.attn_q.weight", "blk.2.attn_q_norm.weight", "blk.0.post_attention_norm.weight", "blk.0.ffn_norm.weight", "blk.0.post_ffw_norm.weight"]);
  expect(ggufName("model.layers.0.post_attention_layernorm.weight", configOf("llama").decoder)).toBe("blk.0.ffn_norm.weight");
  for (const name of ["model.layers.3.self_attn.q_proj.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.mlp.router.weight"]) expect(ggufName(name, decoder)).toBeUndefined();
});

/** A random model of a family with every tensor that its decoder has, one linear of which is quantized: as a file, and as it was. */
async function written(family: string, changes: Record<string, unknown>, quantized: string, scheme: QuantScheme) {
  const { config, decoder } = configOf(family, changes);
  const facts = { config, decoder, tensors: new Map<string, TensorSpec>() };
  let state = 1;
  const random = () => (state = (state * 48_271) % 0x7fff_ffff) / 0x7fff_ffff - 0.5;
  const shapes = new Map<string, readonly number[]>([[decoder.embedding.tensor, [decoder.vocabSize, decoder.hiddenSize]], [decoder.finalNorm.tensor, [decoder.hiddenSize]]]);
  for (let layer = 0; layer < decoder.layers; layer++) {
    for (const { graph, weights } of decoder.stages(layer, 1)) {
      for (const { name, shape } of graph.weights) {
        const source = weights.get(name)!;
        if ("tensor" in source) shapes.set(source.tensor, shape);
      }
    }
  }
  const values = new Map<string, Float32Array>();
  const parts: { readonly spec: TensorSpec; readonly bytes: Uint8Array }[] = [];
  let linear: QuantizedLinear | undefined;
  for (const [name, shape] of shapes) {
    const bytes = fromFloat32(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, random), "BF16");
    values.set(name, toFloat32(bytes, "BF16"));
    if (name === `${quantized}.weight`) {
      const [outFeatures, inFeatures] = shape;
      const groups = outFeatures * (inFeatures / 32);
      linear = {
        outFeatures, inFeatures, scheme, codes: Uint8Array.from({ length: outFeatures * inFeatures }, () => (random() + 0.5) * 16),
        scales: Float32Array.from({ length: groups }, (_, i) => (1 + (i % 7)) / 64), zeros: new Uint8Array(groups).fill(8),
      };
      const order = container.rowOrder(quantized, facts);
      const [tensor] = gguf.pack(quantized, order === undefined ? linear : rowsInOrder(linear, order));
      parts.push({ spec: tensor, bytes: tensor.bytes });
    } else {
      const stored = container.stored({ name, dtype: "BF16", shape }, facts)!;
      parts.push({ spec: stored.spec, bytes: stored.convert(bytes) });
    }
  }
  const tokenizer = new Map(["tokenizer.json", "tokenizer_config.json"].map((name) => [name, Uint8Array.from(fixture(`demo-model/${name}`))]));
  const model: ModelToWrite = {
    ...facts, outputs: parts.map(({ spec: { name, dtype, shape } }) => ({ name, dtype, shape })), linears: [{ ...linear!, name: quantized }],
    files: new Map([...tokenizer].map(([name, { length }]) => [name, length])), readFile: (name) => Promise.resolve(tokenizer.get(name)!), quantizer: "shardsmith:1",
  };
  const { shards: [shard] } = await container.layOut(model);
  const file = new Uint8Array(shard.size);
  file.set(shard.header);
  for (const [i, { start }] of shard.tensors.entries()) file.set(parts[i].bytes, start);
  return { file, shard, decoder, values, linear: linear! };
}

const open = (file: Uint8Array<ArrayBuffer>, decoder: Decoder) => container.open({
  label: "m", files: new Map([["config.json", 1], ["model-Q4_0.gguf", file.length]]), decoder: () => decoder, read: (_, start, end) => Promise.resolve(file.slice(start, end)),
});

describe("a whole file", () => {
  const Q4: QuantScheme = { bits: 4, groupSize: 32, symmetric: true, scaleDtype: "F16" };
  // The demo's tokenizer has more tokens than these models' tables.
  const VOCABULARY = { vocab_size: 1024 };
  it.each([
    ["llama", {}], ["llama", { rope_parameters: { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 } }],
    ["llama-biases", {}], ["mistral", {}], ["qwen2", {}], ["qwen3", {}], ["gemma3-text", GEMMA],
  ])("of %s %j is opened as the checkpoint that it was", async (family, changes) => {
    const name = "model.layers.1.self_attn.q_proj";
    const { file, shard, decoder, values, linear } = await written(family, { ...changes, ...VOCABULARY }, name, Q4);
    expect(shard.file).toBe("model-Q4_0.gguf");
    const { tensors, packed } = (await open(file, decoder))!;
    const read = new Map(tensors.map((tensor) => {
      const bytes = file.slice(tensor.start, tensor.end);
      return [tensor.name, { ...tensor, bytes: tensor.restore?.(bytes) ?? bytes }];
    }));
    expect([...read.keys()].sort()).toEqual([...values.keys()].map((own) => (own === `${name}.weight` ? `${name}.blocks` : own)).sort());
    expect(dequantize(packed!.unpack(name, new Map([["blocks", read.get(`${name}.blocks`)!]]))).data).toEqual(dequantize(linear).data);
    for (const [own, expected] of values) {
      if (own === `${name}.weight`) continue;
      const { bytes, dtype } = read.get(own)!;
      const found = toFloat32(bytes, dtype as "F32" | "BF16");
      // What 1 + w lost beside w, in gemma3's norms.
      const off = found.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
      expect([own, off <= (decoder.finalNorm.plus === 1 && dtype === "F32" ? 2 ** -24 : 0)]).toEqual([own, true]);
    }
  });

  it("has q's rows in pairs, as llama.cpp's rope turns them: rows 0 and 4 of a head of 8 side by side", async () => {
    const { file, values } = await written("llama", VOCABULARY, "model.layers.1.self_attn.v_proj", Q4);
    const { tensors } = await readGguf((start, end) => Promise.resolve(file.slice(start, end)), file.length, "m");
    const { start } = tensors.get("blk.0.attn_q.weight")!;
    const source = values.get("model.layers.0.self_attn.q_proj.weight")!;
    const rows = toFloat32(file.slice(start, start + 10 * 64), "BF16");
    for (const [stored, row] of [0, 4, 1, 5, 2, 6, 3, 7, 8, 12].entries()) expect(rows.slice(stored * 32, stored * 32 + 32)).toEqual(source.slice(row * 32, row * 32 + 32));
  });

  it("that holds what its config does not, or in a type that is not read, is refused by name", async () => {
    const { file, decoder } = await written("llama", VOCABULARY, "model.layers.1.self_attn.v_proj", Q4);
    await expect(open(file, configOf("llama", { ...VOCABULARY, num_hidden_layers: 1 }).decoder)).rejects.toThrow('m/model-Q4_0.gguf: tensor "blk.1.attn_norm.weight" is none that config.json implies');
    const { header } = await readGguf((start, end) => Promise.resolve(file.slice(start, end)), file.length, "m");
    // After the name, a dimension, its size and the number of its type.
    const at = Buffer.from(header).indexOf("blk.0.attn_norm.weight") + "blk.0.attn_norm.weight".length + 4 + 8;
    const other = file.slice();
    other[at] = 26;
    await expect(open(other, decoder)).rejects.toThrow('m/model-Q4_0.gguf: tensor "blk.0.attn_norm.weight" is I32; F32, F16, BF16, F64, Q4_0, Q4_1, Q4_K, Q6_K, Q8_0 can be read');
  });
});
