import type { Family } from "./family.js";

/** Llama 1 to 3, and the many that share its architecture: SmolLM, TinyLlama, Yi. */
export const llama: Family = {
  modelType: "llama",
  architecture: "LlamaForCausalLM",
  defaults: { tied: false, maxPositions: 2048, ropeTheta: 10_000 },
  biases: { qkv: "attention_bias", o: "attention_bias", mlp: "mlp_bias" },
  headNorms: false,
  norms: { beforeAttention: "input_layernorm", beforeMlp: "post_attention_layernorm" },
  normPlus: 0,
  activation: { field: "hidden_act", byDefault: "silu" },
  scaledEmbedding: false,
  attention: (_, layers) => ({ types: Array.from({ length: layers }, () => "full_attention" as const) }),
};
