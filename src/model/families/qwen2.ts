import type { Fields } from "../fields.js";
import { LAYER_TYPES, type Family, type LayerType } from "./family.js";
import { llama } from "./llama.js";

/** Qwen 2 and 2.5: Llama with biases on q, k and v. */
export const qwen2: Family = {
  ...llama,
  modelType: "qwen2",
  architecture: "Qwen2ForCausalLM",
  defaults: { tied: false, maxPositions: 32_768, ropeTheta: 10_000, kvHeads: 32 },
  biases: { qkv: true, o: false, mlp: false },
  attention: lateWindows,
};

/** Qwen's rule: a window only if `use_sliding_window`, and then from layer `max_window_layers` on, unless `layer_types` says else. */
export function lateWindows(config: Fields, layers: number): { types: readonly LayerType[]; window?: number } {
  const sliding = config.boolean("use_sliding_window", false) && !config.isNull("sliding_window");
  const from = sliding ? config.count("max_window_layers", 28) : layers;
  return {
    types: config.has("layer_types")
      ? config.strings("layer_types", layers, LAYER_TYPES)
      : Array.from({ length: layers }, (_, i) => (i >= from ? "sliding_attention" : "full_attention")),
    window: sliding ? config.size("sliding_window", 4096) : undefined,
  };
}
