import type { Decoder } from "../../model/decoder.js";
import { byteSize } from "../../safetensors/dtypes.js";
import { joinBytes } from "../../safetensors/join-bytes.js";
import type { Shard } from "../../safetensors/layout.js";
import type { TensorSpec } from "../../safetensors/tensor.js";
import type { LinearPlan, ModelToWrite } from "../format.js";
import { ARCHITECTURES } from "./architectures.js";
import { blockTypeOf, type BlockType } from "./block-types.js";
import { BLOCKS, blockTypeOfShape } from "./blocks.js";
import { modelKeys } from "./model-keys.js";
import { ropeFactors } from "./rope-keys.js";
import { ggufName, ROPE_FACTORS } from "./tensor-names.js";
import { tokenizerKeys } from "./tokenizer-keys.js";
import { ggufHeader, type GgufTensor } from "./write-header.js";

/**
 * The one file of a model, whatever its size: `model-Q4_0.gguf`, after the type of most of its layers' weights, by which the Hub, Ollama and LM Studio
 * tell files apart. What the rope's frequencies are divided by comes first of the data; no tensor of the source, it counts as header.
 */
export async function layOut(model: ModelToWrite): Promise<Shard> {
  const decoder = model.decoder!;
  const type = commonest(model.linears, decoder);
  const keys = [
    ...modelKeys(decoder, ARCHITECTURES.get(decoder.family)!, { ...nameOf(model.config), fileType: type.fileType, quantizer: model.quantizer }),
    ...await tokenizerKeys(model, decoder.vocabSize),
  ];
  const factors = ropeFactors(decoder.layer(0));
  const computed: GgufTensor[] = factors === undefined ? [] : [{ name: ROPE_FACTORS, type: "F32", shape: [factors.length], bytes: factors.byteLength }];
  const stored = model.outputs.map((spec) => tensorOf(spec, decoder));
  const { header, starts } = ggufHeader(keys, [...computed, ...stored]);
  const tensors = model.outputs.map((spec, i) => {
    const start = starts[computed.length + i];
    return { ...spec, start, end: start + stored[i].bytes };
  });
  return {
    file: `model-${type.name}.gguf`,
    header: factors === undefined ? header : joinBytes(header, new Uint8Array(factors.buffer)),
    tensors,
    size: tensors.at(-1)!.end,
  };
}

function tensorOf({ name, dtype, shape }: TensorSpec, decoder: Decoder): GgufTensor {
  const bytes = byteSize(dtype, shape);
  const type = name.endsWith(`.${BLOCKS}`) ? blockTypeOfShape(shape) : undefined;
  if (type === undefined) return { name: ggufName(name, decoder)!, type: dtype, shape, bytes };
  const [rows, blocks] = shape;
  return { name: ggufName(`${name.slice(0, -BLOCKS.length)}weight`, decoder)!, type: type.name, shape: [rows, blocks * type.weights], bytes };
}

/** The type in which most of the layers' weights are stored: embeddings and lm_head do not count, as in llama.cpp's own names. */
function commonest(linears: readonly LinearPlan[], { embedding, lmHead }: Decoder): BlockType {
  const weights = new Map<BlockType, number>();
  for (const { name, scheme, outFeatures, inFeatures } of linears) {
    const table = [embedding.tensor, lmHead.tensor].includes(`${name}.weight`);
    const type = scheme && !table ? blockTypeOf(scheme) : undefined;
    if (type !== undefined) weights.set(type, (weights.get(type) ?? 0) + outFeatures * inFeatures);
  }
  return [...weights].sort(([, a], [, b]) => b - a)[0][0];
}

/** The model's name, where config.json has kept it: the last part of a repo's or a folder's. */
function nameOf({ _name_or_path: path }: Readonly<Record<string, unknown>>): { readonly name?: string } {
  const name = typeof path === "string" ? path.split(/[\\/]/).findLast((part) => part !== "") : undefined;
  return name === undefined ? {} : { name };
}
