import { describe, expect, it } from "vitest";
import { decoderOf } from "#src/model/decoder-of.js";
import type { Decoder } from "#src/model/decoder.js";

const sizes = { hidden_size: 64, intermediate_size: 96, num_hidden_layers: 8, num_attention_heads: 4, vocab_size: 100 };
const llama = { model_type: "llama", ...sizes };
const gemma = { model_type: "gemma3_text", ...sizes };
const decoder = (config: unknown) => decoderOf(config, "config.json");

/** The attention of a layer in a run of 10,000 tokens. */
function attentionOf(of: Decoder, layer: number) {
  const node = of.stages(layer, 10_000)[1].graph.nodes.find(({ op }) => op === "attention");
  if (node?.op !== "attention") throw new Error("no attention");
  return node;
}
/** Radians that the slowest-but-one pair of a layer turns from position 0 to 1: tells its theta. */
function secondAngle(of: Decoder, layer: number): number {
  const source = of.stages(layer, 2)[1].weights.get("sin")!;
  if (!("table" in source)) throw new Error("no table");
  const table = source.table(2);
  return Math.asin(table[table.length / 2 + 1]);
}
const windows = (of: Decoder) => Array.from({ length: of.layers }, (_, layer) => attentionOf(of, layer).window);

describe("what config.json does not say is what transformers assumes", () => {
  it("llama", () => {
    const of = decoder(llama);
    expect(of).toMatchObject({
      family: "llama", layers: 8, hiddenSize: 64, vocabSize: 100, maxPositions: 2048,
      embedding: { tensor: "model.embed_tokens.weight", scale: 1 },
      finalNorm: { tensor: "model.norm.weight", plus: 0, eps: 1e-6 },
      lmHead: { tensor: "lm_head.weight", tied: false },
    });
    expect(attentionOf(of, 0)).toMatchObject({ heads: 4, kvHeads: 4, headDim: 16, scale: 0.25 });
    expect(attentionOf(of, 0)).not.toHaveProperty("window");
    expect(secondAngle(of, 0)).toBeCloseTo(10_000 ** (-2 / 16), 6);
  });

  it("mistral: eight key-value heads, and a window of 4096", () => {
    const of = decoder({ ...llama, model_type: "mistral", num_attention_heads: 16 });
    expect(attentionOf(of, 0)).toMatchObject({ heads: 16, kvHeads: 8, headDim: 4, window: 4096 });
  });

  it("qwen3: heads of 128", () => {
    const of = decoder({ ...llama, model_type: "qwen3", num_key_value_heads: 2 });
    expect(attentionOf(of, 0)).toMatchObject({ heads: 4, kvHeads: 2, headDim: 128 });
    expect(of.stages(0, 1)[1].linears).toEqual([{ name: "model.layers.0.self_attn.o_proj", outFeatures: 64, inFeatures: 512 }]);
  });

  it("gemma3_text: tied, two ropes, every sixth layer full, embeddings scaled", () => {
    const of = decoder(gemma);
    expect(of.lmHead).toEqual({ tensor: "model.embed_tokens.weight", tied: true });
    expect(of.embedding.scale).toBe(8);
    expect(windows(of)).toEqual([4096, 4096, 4096, 4096, 4096, undefined, 4096, 4096]);
    expect(secondAngle(of, 0)).toBeCloseTo(10_000 ** (-2 / 256), 6);
    expect(secondAngle(of, 5)).toBeCloseTo(1_000_000 ** (-2 / 256), 6);
    expect(attentionOf(of, 0)).toMatchObject({ kvHeads: 4, headDim: 256, scale: 1 / 16 });
  });

  it("null key-value heads are as many as heads", () => {
    expect(attentionOf(decoder({ ...llama, model_type: "qwen2", num_key_value_heads: null }), 0).kvHeads).toBe(4);
  });
});

describe("windows", () => {
  it("qwen's begin at max_window_layers, and only with use_sliding_window", () => {
    const qwen = { ...llama, model_type: "qwen2", num_key_value_heads: 2, sliding_window: 32, max_window_layers: 6 };
    expect(windows(decoder({ ...qwen, use_sliding_window: true }))).toEqual([...Array<undefined>(6), 32, 32]);
    expect(windows(decoder(qwen))).toEqual(Array<undefined>(8));
    expect(windows(decoder({ ...qwen, use_sliding_window: true, sliding_window: null }))).toEqual(Array<undefined>(8));
    expect(windows(decoder({ ...qwen, use_sliding_window: true, max_window_layers: 0 }))).toEqual(Array<number>(8).fill(32));
  });

  it("a window that the run does not fill is left out", () => {
    const of = decoder({ ...llama, model_type: "mistral", num_key_value_heads: 2, sliding_window: 32 });
    const window = (positions: number) => of.stages(0, positions)[1].graph.nodes.find(({ op }) => op === "attention");
    expect(window(32)).not.toHaveProperty("window");
    expect(window(33)).toHaveProperty("window", 32);
  });
});

describe("rope parameters of a whole model", () => {
  it("original_max_position_embeddings of the model goes before the scaling's", () => {
    const rope_scaling = { type: "yarn", factor: 4, original_max_position_embeddings: 64 };
    const inner = decoder({ ...llama, rope_scaling });
    const outer = decoder({ ...llama, rope_scaling: { ...rope_scaling, original_max_position_embeddings: 999 }, original_max_position_embeddings: 64 });
    expect(secondAngle(outer, 0)).toBe(secondAngle(inner, 0));
    expect(secondAngle(inner, 0)).not.toBe(secondAngle(decoder(llama), 0));
  });

  it("an empty rope_scaling is none", () => {
    expect(secondAngle(decoder({ ...llama, rope_scaling: {}, rope_parameters: { rope_theta: 100 } }), 0)).toBeCloseTo(100 ** (-2 / 16), 6);
  });
});

describe("refuses", () => {
  const known = "it knows llama, mistral, qwen2, qwen3, gemma3_text; --method rtn works for any";
  it.each([
    [{ model_type: "gpt2" }, `config.json: model_type "gpt2" is not an architecture that Shardsmith knows; ${known}`],
    [{ ...gemma, model_type: "gemma3" }, `config.json: model_type "gemma3", which takes images beside text (the text model alone is gemma3_text), is not an architecture that Shardsmith knows; ${known}`],
    [{ model_type: "toString" }, `config.json: model_type "toString" is not an architecture that Shardsmith knows; ${known}`],
    [{ ...llama, architectures: ["LlamaForSequenceClassification"] },
      `config.json: ["LlamaForSequenceClassification"] (of model_type "llama", whose own is LlamaForCausalLM) is not an architecture that Shardsmith knows; ${known}`],
    [[], "config.json: it must hold a JSON object, but holds []"],
    [{}, "config.json: model_type is missing; it must be a string"],
    [{ ...llama, architectures: "LlamaForCausalLM" }, 'config.json: architectures must be a list of strings, but is "LlamaForCausalLM"'],
    [{ ...llama, hidden_size: undefined }, "config.json: hidden_size is missing; it must be a whole number from 1 to 67108864"],
    [{ ...llama, hidden_size: 64.5 }, "config.json: hidden_size must be a whole number from 1 to 67108864, but is 64.5"],
    [{ ...llama, num_hidden_layers: 0 }, "config.json: num_hidden_layers must be a whole number from 1 to 10000, but is 0"],
    [{ ...llama, num_hidden_layers: 1e6 }, "config.json: num_hidden_layers must be a whole number from 1 to 10000, but is 1000000"],
    [{ ...llama, vocab_size: 1e12 }, "config.json: vocab_size must be a whole number from 1 to 67108864, but is 1000000000000"],
    [{ ...llama, num_attention_heads: [4, 8] }, "config.json: num_attention_heads must be a whole number from 1 to 67108864, but is [4,8]"],
    [{ ...llama, num_key_value_heads: 3 }, "config.json: num_key_value_heads is 3, which does not divide num_attention_heads, 4"],
    [{ ...llama, num_attention_heads: 7 }, "config.json: head_dim is missing, and num_attention_heads, 7, does not divide hidden_size, 64"],
    [{ ...llama, head_dim: 15 }, "config.json: head_dim is 15; rotary embedding needs an even one"],
    [{ ...llama, rms_norm_eps: -1 }, "config.json: rms_norm_eps must be a number above 0, but is -1"],
    [{ ...llama, tie_word_embeddings: "yes" }, 'config.json: tie_word_embeddings must be true or false, but is "yes"'],
    [{ ...llama, hidden_act: "relu" }, 'config.json: hidden_act is "relu", which Shardsmith cannot compute; it knows silu, swish, gelu, gelu_new, gelu_pytorch_tanh'],
    [{ ...llama, partial_rotary_factor: 0.5 }, "config.json: partial_rotary_factor is 0.5: Shardsmith turns whole heads only"],
    [{ ...llama, rope_parameters: [] }, "config.json: rope_parameters must be an object, but is []"],
    [{ ...llama, rope_parameters: { rope_theta: -1 } }, "config.json: rope_parameters.rope_theta must be a number above 0, but is -1"],
    [{ ...llama, rope_scaling: { type: "su", factor: 2 } }, 'config.json: rope_scaling.type is "su", which Shardsmith cannot compute; it knows default, linear, dynamic, yarn, longrope, llama3'],
    [{ ...llama, per_layer_config: { 0: {} } }, 'config.json: per_layer_config is {"0":{}}: Shardsmith computes models whose layers are all of one size only'],
    [{ ...gemma, attn_logit_softcapping: 50 }, "config.json: attn_logit_softcapping is 50: Shardsmith cannot cap attention scores"],
    [{ ...gemma, use_bidirectional_attention: true }, "config.json: use_bidirectional_attention is true: Shardsmith computes causal attention only"],
    [{ ...gemma, rope_parameters: { rope_theta: 100 } }, "config.json: rope_parameters.rope_theta is 100: this architecture has rope_parameters for each type of layer"],
    [{ ...gemma, layer_types: ["full_attention"] },
      'config.json: layer_types must be a list of 8 strings out of full_attention, sliding_attention, but is ["full_attention"]'],
    [{ ...gemma, layer_types: Array<string>(8).fill("chunked_attention") },
      `config.json: layer_types must be a list of 8 strings out of full_attention, sliding_attention, but is ${JSON.stringify(Array<string>(8).fill("chunked_attention"))}`],
  ])("%j", (config, message) => {
    expect(() => decoder(config)).toThrow(expect.objectContaining({ name: "InputError", message }));
  });
});
