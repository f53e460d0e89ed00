import type { Decoder, Layer } from "../../model/decoder.js";
import { ARCHITECTURES, type Architecture } from "./architectures.js";

/** Why llama.cpp cannot take a model, from its config.json alone; undefined if it can. Exact text is part of the interface. */
export function refuseModel(decoder: Decoder | undefined, modelType: unknown): string | undefined {
  const architecture = decoder && ARCHITECTURES.get(decoder.family);
  if (decoder === undefined || architecture === undefined) {
    return `gguf is written for ${[...ARCHITECTURES.keys()].join(", ")}; this model is ${typeof modelType === "string" ? modelType : "of no model_type"}`;
  }
  const layers = Array.from({ length: decoder.layers }, (_, index) => decoder.layer(index));
  return refuseLayer(decoder, layers[0], architecture) ?? refuseWindows(layers, architecture);
}

function refuseLayer({ layers, hiddenSize, lmHead, family }: Decoder, layer: Layer, { activation, biases, readsRopeFactors, slides }: Architecture): string | undefined {
  const refusal = (what: string): string => `llama.cpp's ${family === "gemma3_text" ? "gemma3" : family} ${what}`;
  if (layer.activation !== activation) return refusal(`computes ${activation}, not ${layer.activation}`);
  for (const kind of ["qkv", "o", "mlp"] as const) {
    if (layer.biases[kind] && !biases[kind]) return refusal(`has no biases on ${BIASED[kind]}`);
  }
  const { type } = layer.rope.scaling;
  if (type === "longrope") return refusal("cannot choose between longrope's factors by the length of a sequence");
  if (type === "llama3" && !readsRopeFactors) return refusal("reads no factors for single frequencies, which rope_type llama3 needs");
  if (layer.rope.scaling.type === "yarn" && !layer.rope.scaling.truncate) return refusal("knows yarn with truncate only");
  if (lmHead.softcap !== undefined) return refusal("does not cap logits (final_logit_softcapping)");
  if (!slides) return undefined;
  // llama.cpp takes 62 layers for Gemma 3 27B, which alone has a scale of its own.
  const scale = (layers === 62 ? hiddenSize / layer.heads : layer.headDim) ** -0.5;
  return Math.abs(layer.attentionScale / scale - 1) > 1e-6 ? refusal(`scales attention by ${String(scale)}, not ${String(layer.attentionScale)} (query_pre_attn_scalar)`) : undefined;
}

const BIASED = { qkv: "q, k and v", o: "o_proj", mlp: "the MLP" };

/** Where sliding layers follow no pattern that GGUF can say. */
function refuseWindows(layers: readonly Layer[], { slides }: Architecture): string | undefined {
  if (!slides) return undefined;
  const period = slidingPeriod(layers);
  if (layers.some(({ window }, i) => (window === undefined) !== ((i + 1) % period === 0))) {
    return `llama.cpp's gemma3 has every n-th layer see all, and these do: ${layers.flatMap(({ window }, i) => (window === undefined ? [i] : [])).join(", ")}`;
  }
  const [full, sliding] = [layers.find(({ window }) => window === undefined), layers.find(({ window }) => window !== undefined)];
  if (layers.some(({ window, rope }) => window === undefined && rope !== full?.rope)) return "llama.cpp's gemma3 has one rope for all layers that see all, and these have several";
  if (sliding !== undefined && sliding.rope.scaling.type !== "default") return `llama.cpp's gemma3 does not scale the rope of sliding layers, which is ${sliding.rope.scaling.type} here`;
  return undefined;
}

/** After how many layers the pattern of sliding layers repeats, the last of them seeing all: more than there are, if none does. */
export function slidingPeriod(layers: readonly Layer[]): number {
  const first = layers.findIndex(({ window }) => window === undefined);
  return (first < 0 ? layers.length : first) + 1;
}
