import type { Layer } from "../../model/decoder.js";
import type { GgufKey } from "./values.js";

/**
 * The keys of a rope, as llama.cpp reads them (src/llama-model.cpp, llama-context.cpp, v0.5.0). `dynamic` scaling changes nothing up to the
 * context length, which is where it stops being the model's, and llama3's is a tensor (`ropeFactors`).
 */
export function ropeKeys(arch: string, { rope, headDim }: Layer): GgufKey[] {
  const f32 = (name: string, value: number): GgufKey => [`${arch}.rope.${name}`, { type: "f32", value }];
  const keys: GgufKey[] = [
    [`${arch}.rope.dimension_count`, { type: "u32", value: headDim }],
    f32("freq_base", rope.theta),
  ];
  const { scaling } = rope;
  if (scaling.type !== "linear" && scaling.type !== "yarn") return keys;
  keys.push([`${arch}.rope.scaling.type`, { type: "string", value: scaling.type }], f32("scaling.factor", scaling.factor));
  if (scaling.type === "linear") return keys;
  keys.push(
    [`${arch}.rope.scaling.original_context_length`, { type: "u32", value: scaling.originalPositions }],
    f32("scaling.yarn_beta_fast", scaling.betaFast), f32("scaling.yarn_beta_slow", scaling.betaSlow),
  );
  // llama.cpp computes YaRN's usual factor itself, and multiplies this one with it.
  const usual = scaling.factor <= 1 ? 1 : 0.1 * Math.log(scaling.factor) + 1;
  const further = Math.fround(rope.at(1).attentionFactor / usual);
  if (Math.abs(further - 1) > 1e-6) keys.push(f32("scaling.attn_factor", further));
  return keys;
}

/** What each frequency θ^(−2i / headDim) is divided by, for scalings that GGUF has no keys for: [headDim / 2]. */
export function ropeFactors({ rope, headDim }: Layer): Float32Array<ArrayBuffer> | undefined {
  if (rope.scaling.type !== "llama3") return undefined;
  return rope.at(1).inverseFrequencies.map((frequency, i) => rope.theta ** ((-2 * i) / headDim) / frequency);
}
