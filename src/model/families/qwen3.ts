import type { Family } from "./family.js";
import { lateWindows } from "./qwen2.js";
import { llama } from "./llama.js";

/** Qwen 3: Llama with norms on the heads of q and k, and a head size of its own. */
export const qwen3: Family = {
  ...llama,
  modelType: "qwen3",
  architecture: "Qwen3ForCausalLM",
  defaults: { tied: false, maxPositions: 32_768, ropeTheta: 10_000, headDim: 128, kvHeads: 32 },
  biases: { qkv: "attention_bias", o: "attention_bias", mlp: false },
  headNorms: true,
  attention: lateWindows,
};
