/** Weights in other formats, and what is written anew. The model card speaks of the original, so it stays with it. */
const LEFT_BEHIND = /\.(safetensors|bin|pt|pth|ckpt|gguf|onnx|h5|msgpack|index\.json|npz)$|^(config\.json|.*\/.*|quantize_config\.json|quant_config\.json|shardsmith\.json|README\.md|\..*)$/i;

/** Which of a checkpoint's other files belong into the quantized one: tokenizer, generation config, chat template, licence, code. */
export function carriedFiles(names: Iterable<string>): string[] {
  return [...names].filter((name) => !LEFT_BEHIND.test(name)).sort();
}
