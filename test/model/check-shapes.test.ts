import { describe, expect, it } from "vitest";
import { checkShapes } from "#src/model/check-shapes.js";
import { decoderOf } from "#src/model/decoder-of.js";
import { changed, FIXTURES, readJson, readTensors } from "./golden.js";

const config = readJson(`${FIXTURES}qwen2/config.json`);
const tensors = new Map([...readTensors(`${FIXTURES}qwen2/model.safetensors`)].map(([name, { shape }]) => [name, { shape }]));
const check = (fields: Record<string, unknown>, found: ReadonlyMap<string, { shape: readonly number[] }>) =>
  checkShapes(decoderOf(changed(config, fields), "config.json"), found, "a-model");

it("what transformers saved is right, and other tensors do no harm", () => {
  expect(() => check({}, tensors)).not.toThrow();
  expect(() => check({}, new Map([...tensors, ["model.layers.0.self_attn.rotary_emb.inv_freq", { shape: [4] }]]))).not.toThrow();
});

describe("refuses", () => {
  const without = (name: string) => new Map([...tensors].filter(([other]) => other !== name));
  it.each([
    ["a missing norm", {}, without("model.layers.2.input_layernorm.weight"), "a-model: tensor model.layers.2.input_layernorm.weight is missing; config.json implies [32]"],
    ["a missing bias", {}, without("model.layers.1.self_attn.k_proj.bias"), "a-model: tensor model.layers.1.self_attn.k_proj.bias is missing; config.json implies [16]"],
    ["a missing final norm", {}, without("model.norm.weight"), "a-model: tensor model.norm.weight is missing; config.json implies [32]"],
    ["a head of its own that is not there", { tie_word_embeddings: false }, tensors, "a-model: tensor lm_head.weight is missing; config.json implies [96, 32]"],
    ["another vocabulary", { vocab_size: 97 }, tensors, "a-model: tensor model.embed_tokens.weight has shape [96, 32], but config.json implies [97, 32]"],
    ["another MLP", { intermediate_size: 64 }, tensors, "a-model: tensor model.layers.0.mlp.gate_proj.weight has shape [48, 32], but config.json implies [64, 32]"],
    ["more layers", { num_hidden_layers: 4, layer_types: null }, tensors, "a-model: tensor model.layers.3.input_layernorm.weight is missing; config.json implies [32]"],
    ["another rank", {}, new Map([...tensors, ["model.norm.weight", { shape: [32, 1] }]]), "a-model: tensor model.norm.weight has shape [32, 1], but config.json implies [32]"],
  ])("%s", (_, fields, found, message) => {
    expect(() => check(fields, found)).toThrow(expect.objectContaining({ name: "InputError", message }));
  });
});
