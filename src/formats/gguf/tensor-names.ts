import type { Decoder, Layer } from "../../model/decoder.js";

/** llama.cpp's names of a layer's linears and of the norms over heads (gguf-py, tensor_mapping.py). */
const MODULES: ReadonlyMap<string, string> = new Map([
  ["self_attn.q_proj", "attn_q"], ["self_attn.k_proj", "attn_k"], ["self_attn.v_proj", "attn_v"], ["self_attn.o_proj", "attn_output"],
  ["self_attn.q_norm", "attn_q_norm"], ["self_attn.k_norm", "attn_k_norm"],
  ["mlp.gate_proj", "ffn_gate"], ["mlp.up_proj", "ffn_up"], ["mlp.down_proj", "ffn_down"],
]);

/** Divisors of the rope's frequencies: no tensor of any source. */
export const ROPE_FACTORS = "rope_freqs.weight";

const LM_HEAD = "lm_head.weight";
const LAYER_TENSOR = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/;

/** llama.cpp's name of a tensor of the source; undefined for one that the decoder does not use. */
export function ggufName(tensor: string, decoder: Decoder): string | undefined {
  if (tensor === decoder.embedding.tensor) return "token_embd.weight";
  if (tensor === decoder.finalNorm.tensor) return "output_norm.weight";
  // A tied model may have one of its own all the same: transformers takes it, and so does llama.cpp.
  if (tensor === LM_HEAD) return "output.weight";
  const [, index, module, kind] = LAYER_TENSOR.exec(tensor) ?? [];
  if (index === undefined || Number(index) >= decoder.layers) return undefined;
  const name = MODULES.get(module) ?? normName(module, decoder.layer(Number(index)));
  return name === undefined ? undefined : `blk.${index}.${name}.${kind}`;
}

function normName(module: string, { norms }: Layer): string | undefined {
  if (module === norms.beforeAttention) return "attn_norm";
  if (module === norms.afterAttention) return "post_attention_norm";
  if (module === norms.beforeMlp) return "ffn_norm";
  return module === norms.afterMlp ? "post_ffw_norm" : undefined;
}

/** The source's name of each tensor that a file of this decoder may have, by llama.cpp's. */
export function sourceNames(decoder: Decoder): Map<string, string> {
  const layers = Array.from({ length: decoder.layers }, (_, layer) => decoder.tensorsOf(layer)).flat();
  return new Map([decoder.embedding.tensor, decoder.finalNorm.tensor, LM_HEAD, ...layers].map((name) => [ggufName(name, decoder)!, name]));
}
