import type { Family } from "./family.js";
import { llama } from "./llama.js";

/** Mistral 7B and its kin: Llama with a sliding window in every layer (later versions set it to null). */
export const mistral: Family = {
  ...llama,
  modelType: "mistral",
  architecture: "MistralForCausalLM",
  defaults: { tied: false, maxPositions: 131_072, ropeTheta: 10_000, kvHeads: 8 },
  biases: { qkv: false, o: false, mlp: false },
  attention: (config, layers) => {
    const window = config.isNull("sliding_window") ? undefined : config.size("sliding_window", 4096);
    return { types: Array.from({ length: layers }, () => "sliding_attention" as const), window };
  },
};
