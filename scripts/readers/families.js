// Tiny models of every family, with a tokenizer that is small enough for them.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const LLAMA3 = { rope_type: "llama3", rope_theta: 10_000, factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 };
const YARN = { rope_type: "yarn", rope_theta: 10_000, factor: 4, original_max_position_embeddings: 16 };

/** Folders of test/fixtures/models, and what is changed in their config.json. */
export const FAMILIES = [
  { name: "llama, llama3 rope", fixture: "llama", changes: { rope_parameters: LLAMA3 } },
  { name: "llama, yarn", fixture: "llama", changes: { rope_parameters: YARN } },
  { name: "llama with biases", fixture: "llama-biases" },
  { name: "mistral", fixture: "mistral", changes: { sliding_window: null } },
  { name: "qwen2", fixture: "qwen2" },
  { name: "qwen3, yarn", fixture: "qwen3", changes: { rope_parameters: YARN } },
  // The scale that llama.cpp takes for it; and ggml looks GELU up in a table of half precision.
  { name: "gemma3", fixture: "gemma3-text", changes: { query_pre_attn_scalar: 12 }, exact: 1e-3 },
];

/**
 * Makes one of them.
 * @param fixtures test/fixtures
 * @param folder where it is to be
 */
export function makeFamily({ fixture, changes = {} }, fixtures, folder) {
  const parsed = (...path) => JSON.parse(readFileSync(join(fixtures, ...path), "utf8"));
  const write = (name, json) => writeFileSync(join(folder, name), JSON.stringify(json));
  mkdirSync(folder);
  copyFileSync(join(fixtures, "models", fixture, "model.safetensors"), join(folder, "model.safetensors"));
  const config = { ...parsed("models", fixture, "config.json"), ...changes };
  write("config.json", config);
  write("tokenizer_config.json", parsed("demo-model", "tokenizer_config.json"));
  const tokenizer = parsed("demo-model", "tokenizer.json");
  // Letters, and one merge: gguf-py writes no empty list.
  const letters = Object.entries(tokenizer.model.vocab).filter(([, id]) => id < config.vocab_size - 1);
  tokenizer.model.vocab = { ...Object.fromEntries(letters), th: config.vocab_size - 1 };
  tokenizer.model.merges = ["t h"];
  write("tokenizer.json", tokenizer);
}
