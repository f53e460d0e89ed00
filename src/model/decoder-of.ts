import type { Activation } from "../engine/graph.js";
import { InputError } from "../errors.js";
import type { Decoder } from "./decoder.js";
import { FAMILIES } from "./families/families.js";
import type { Biases, Family, LayerType } from "./families/family.js";
import { Fields } from "./fields.js";
import { ropeOf, type Rope } from "./rotary.js";
import { quote } from "../safetensors/json.js";
import { layerStages, type Layer } from "./stages.js";

/** transformers' names of activations. gelu_new is the same formula as gelu_pytorch_tanh. */
const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: "silu", swish: "silu", gelu: "gelu", gelu_new: "gelu_tanh", gelu_pytorch_tanh: "gelu_tanh",
};

/** The deepest open models have some two hundred layers; a config that claims millions would hold us up for minutes. */
const MOST_LAYERS = 10_000;

/** Fields that change what a model computes in ways that Shardsmith does not follow, and the values that change nothing. */
const REFUSED: readonly (readonly [field: string, harmless: unknown, because: string])[] = [
  ["partial_rotary_factor", 1, "Shardsmith turns whole heads only"],
  ["attn_logit_softcapping", undefined, "Shardsmith cannot cap attention scores"],
  ["use_bidirectional_attention", false, "Shardsmith computes causal attention only"],
  ["per_layer_config", undefined, "Shardsmith computes models whose layers are all of one size only"],
];

/**
 * What a config.json says, as a decoder that can be run. Fields that are missing are filled as transformers fills them; both the
 * layout of its version 4 (`rope_theta`, `rope_scaling`, …) and of its version 5 (`rope_parameters`) are read.
 *
 * @param json what JSON.parse made of the file
 * @param file its name, for messages
 * @throws InputError for an architecture that is not known, options that cannot be computed, and fields that are missing or absurd
 */
export function decoderOf(json: unknown, file: string): Decoder {
  const config = Fields.of(json, file);
  const family = familyOf(config);
  for (const [field, harmless, because] of REFUSED) config.refuseUnless(field, harmless, because);

  const hiddenSize = config.size("hidden_size");
  const vocabSize = config.size("vocab_size");
  const layers = config.size("num_hidden_layers", undefined, MOST_LAYERS);
  const heads = config.size("num_attention_heads");
  const kvHeads = config.size("num_key_value_heads", config.isNull("num_key_value_heads") ? heads : (family.defaults.kvHeads ?? heads));
  if (heads % kvHeads !== 0) {
    throw config.wrong("num_key_value_heads", `is ${kvHeads}, which does not divide num_attention_heads, ${heads}`);
  }
  const headDim = headDimOf(config, family, hiddenSize, heads);
  const maxPositions = config.size("max_position_embeddings", family.defaults.maxPositions);
  const eps = config.positive("rms_norm_eps", 1e-6);
  const attention = family.attention(config, layers);
  const ropes = ropesOf(config, family, headDim, maxPositions);

  const every: Omit<Layer, "prefix" | "rope"> = {
    hiddenSize, heads, kvHeads, headDim, eps,
    intermediateSize: config.size("intermediate_size"),
    attentionScale: family.attentionScale
      ? config.positive(family.attentionScale.field, family.attentionScale.byDefault) ** -0.5
      : headDim ** -0.5,
    biases: {
      qkv: hasBiases(config, family.biases.qkv), o: hasBiases(config, family.biases.o), mlp: hasBiases(config, family.biases.mlp),
    },
    headNorms: family.headNorms,
    norms: family.norms,
    normPlus: family.normPlus,
    activation: activationOf(config, family),
  };
  const layerAt = (index: number): Layer => {
    const type = attention.types[index];
    if (type === undefined) throw new RangeError(`there is no layer ${index}: the model has ${layers}`);
    return {
      ...every,
      prefix: `model.layers.${index}.`,
      rope: ropes[type],
      ...(type === "sliding_attention" && attention.window !== undefined && { window: attention.window }),
    };
  };

  const tied = config.boolean("tie_word_embeddings", family.defaults.tied);
  const embedding = "model.embed_tokens.weight";
  return {
    family: family.modelType, layers, hiddenSize, vocabSize, maxPositions,
    embedding: { tensor: embedding, scale: family.scaledEmbedding ? Math.fround(Math.sqrt(hiddenSize)) : 1 },
    layer: layerAt,
    stages: (layer, positions) => layerStages(layerAt(layer), positions),
    // A norm that is computed again in the next stage is one tensor.
    tensorsOf: (layer) => [...new Set(layerStages(layerAt(layer), 1).flatMap((stage) =>
      [...stage.weights.values()].flatMap((source) => ("tensor" in source ? [source.tensor] : []))))],
    finalNorm: { tensor: "model.norm.weight", plus: family.normPlus, eps },
    lmHead: {
      tensor: tied ? embedding : "lm_head.weight", tied,
      ...(config.has("final_logit_softcapping") && { softcap: config.positive("final_logit_softcapping") }),
    },
  };
}

function familyOf(config: Fields): Family {
  const known = [...FAMILIES.keys()].join(", ");
  const unknown = (what: string) =>
    new InputError(`${config.file}: ${what} is not an architecture that Shardsmith knows; it knows ${known}; --method rtn works for any`);
  const modelType = config.string("model_type");
  if (modelType === "gemma3") {
    throw unknown('model_type "gemma3", which takes images beside text (the text model alone is gemma3_text),');
  }
  const family = FAMILIES.get(modelType);
  if (!family) throw unknown(`model_type ${quote(modelType)}`);
  const architectures = config.list("architectures");
  if (architectures && !architectures.includes(family.architecture)) {
    throw unknown(`${quote(architectures)} (of model_type "${modelType}", whose own is ${family.architecture})`);
  }
  return family;
}

function headDimOf(config: Fields, family: Family, hiddenSize: number, heads: number): number {
  if (!config.has("head_dim") && family.defaults.headDim === undefined && hiddenSize % heads !== 0) {
    throw config.wrong("head_dim", `is missing, and num_attention_heads, ${heads}, does not divide hidden_size, ${hiddenSize}`);
  }
  const headDim = config.size("head_dim", family.defaults.headDim ?? hiddenSize / heads);
  if (headDim % 2 !== 0) throw config.wrong("head_dim", `is ${headDim}; rotary embedding needs an even one`);
  return headDim;
}

function activationOf(config: Fields, family: Family): Activation {
  const { field, byDefault } = family.activation;
  const name = config.string(field, byDefault);
  if (!Object.hasOwn(ACTIVATIONS, name)) {
    throw config.wrong(field, `is ${quote(name)}, which Shardsmith cannot compute; it knows ${Object.keys(ACTIVATIONS).join(", ")}`);
  }
  return ACTIVATIONS[name];
}

function hasBiases(config: Fields, biases: Biases): boolean {
  return typeof biases === "boolean" ? biases : config.boolean(biases, false);
}

/** The rope of each type of layer: one for all, except in families whose sliding layers have their own. */
function ropesOf(config: Fields, family: Family, headDim: number, maxPositions: number): Readonly<Record<LayerType, Rope>> {
  const scaling = config.object("rope_scaling");
  const parameters = config.object("rope_parameters");
  const rope = (from: Fields, thetaField: string, theta: number) => ropeOf(from, {
    theta: from.positive("rope_theta", config.positive(thetaField, theta)),
    headDim,
    maxPositions,
    ...(config.has("original_max_position_embeddings") && { originalPositions: config.size("original_max_position_embeddings") }),
  });
  const { ropeTheta } = family.defaults;
  if (!family.slidingRope) {
    const one = rope(scaling ?? parameters ?? config.empty("rope_parameters"), "rope_theta", ropeTheta);
    return { full_attention: one, sliding_attention: one };
  }
  // Flat parameters would say nothing of which layers they are for.
  for (const field of ["rope_type", "rope_theta"]) {
    parameters?.refuseUnless(field, undefined, "this architecture has rope_parameters for each type of layer");
  }
  const partOf = (type: LayerType) => parameters?.object(type) ?? config.empty(`rope_parameters.${type}`);
  const { thetaField, byDefault } = family.slidingRope;
  return {
    full_attention: rope(scaling ?? partOf("full_attention"), "rope_theta", ropeTheta),
    sliding_attention: rope(partOf("sliding_attention"), thetaField, byDefault),
  };
}
