import type { Decoder } from "../../model/decoder.js";
import type { Architecture } from "./architectures.js";
import { slidingPeriod } from "./refuse-model.js";
import { ropeKeys } from "./rope-keys.js";
import type { GgufKey } from "./values.js";

/** general.quantization_version: of ggml's block formats as they are since 2023. */
const QUANTIZATION_VERSION = 2;

/** What llama.cpp must know of a model to compute it (gguf-py, constants.py; src/llama-model.cpp), tokenizer aside. */
export function modelKeys(
  decoder: Decoder, architecture: Architecture,
  { name, fileType, quantizer }: { readonly name?: string; readonly fileType: number; readonly quantizer: string },
): GgufKey[] {
  const { name: arch } = architecture;
  const layers = Array.from({ length: decoder.layers }, (_, index) => decoder.layer(index));
  const full = layers.find(({ window }) => window === undefined) ?? layers[0];
  const u32 = (key: string, value: number): GgufKey => [key, { type: "u32", value }];
  const string = (key: string, value: string): GgufKey => [key, { type: "string", value }];
  // Windows that an architecture lacks hide nothing in texts that are no longer.
  const windows = layers.flatMap(({ window }) => (window === undefined ? [] : [window]));
  const positions = architecture.slides ? decoder.maxPositions : Math.min(decoder.maxPositions, ...windows);
  return [
    string("general.architecture", arch),
    string("general.type", "model"),
    ...(name === undefined ? [] : [string("general.name", name)]),
    string("general.quantized_by", quantizer),
    u32("general.file_type", fileType),
    u32("general.quantization_version", QUANTIZATION_VERSION),
    u32(`${arch}.block_count`, decoder.layers),
    u32(`${arch}.context_length`, positions),
    u32(`${arch}.embedding_length`, decoder.hiddenSize),
    u32(`${arch}.feed_forward_length`, full.intermediateSize),
    u32(`${arch}.attention.head_count`, full.heads),
    u32(`${arch}.attention.head_count_kv`, full.kvHeads),
    u32(`${arch}.attention.key_length`, full.headDim),
    u32(`${arch}.attention.value_length`, full.headDim),
    [`${arch}.attention.layer_norm_rms_epsilon`, { type: "f32", value: full.eps }],
    u32(`${arch}.vocab_size`, decoder.vocabSize),
    ...ropeKeys(arch, full),
    ...(architecture.slides ? slidingKeys(decoder, arch) : []),
  ];
}

function slidingKeys(decoder: Decoder, arch: string): GgufKey[] {
  const layers = Array.from({ length: decoder.layers }, (_, index) => decoder.layer(index));
  const sliding = layers.find(({ window }) => window !== undefined);
  if (sliding?.window === undefined) return [];
  return [
    [`${arch}.attention.sliding_window`, { type: "u32", value: sliding.window }],
    [`${arch}.attention.sliding_window_pattern`, { type: "u32", value: slidingPeriod(layers) }],
    [`${arch}.rope.freq_base_swa`, { type: "f32", value: sliding.rope.theta }],
  ];
}
