import { LAYER_TYPES, type Family } from "./family.js";

/** Gemma 3, the text model: four norms a layer, weights of norms as 1 + w, and five windowed layers to each full one. */
export const gemma3Text: Family = {
  modelType: "gemma3_text",
  architecture: "Gemma3ForCausalLM",
  defaults: { tied: true, maxPositions: 131_072, ropeTheta: 1_000_000, headDim: 256, kvHeads: 4 },
  biases: { qkv: "attention_bias", o: "attention_bias", mlp: false },
  headNorms: true,
  norms: {
    beforeAttention: "input_layernorm",
    afterAttention: "post_attention_layernorm",
    beforeMlp: "pre_feedforward_layernorm",
    afterMlp: "post_feedforward_layernorm",
  },
  normPlus: 1,
  activation: { field: "hidden_activation", byDefault: "gelu_pytorch_tanh" },
  scaledEmbedding: true,
  attentionScale: { field: "query_pre_attn_scalar", byDefault: 256 },
  slidingRope: { thetaField: "rope_local_base_freq", byDefault: 10_000 },
  attention: (config, layers) => {
    const pattern = config.size("sliding_window_pattern", 6);
    return {
      types: config.has("layer_types")
        ? config.strings("layer_types", layers, LAYER_TYPES)
        : Array.from({ length: layers }, (_, i) => ((i + 1) % pattern === 0 ? "full_attention" : "sliding_attention")),
      window: config.isNull("sliding_window") ? undefined : config.size("sliding_window", 4096),
    };
  },
};
