import { InputError } from "../errors.js";
import type { QuantScheme } from "../quantize/scheme.js";
import type { Container, Format } from "./format.js";
import { blockTypeOf } from "./gguf/block-types.js";
import { blocksSpec } from "./gguf/blocks.js";
import { layOut } from "./gguf/lay-out.js";
import { openGguf } from "./gguf/open.js";
import { refuseModel } from "./gguf/refuse-model.js";
import { rowOrder } from "./gguf/row-order.js";
import { storedTensor } from "./gguf/stored.js";

const container: Container = {
  refusesModel: ({ decoder, config }) => refuseModel(decoder, config["model_type"]),
  stored: (tensor, { decoder }) => storedTensor(tensor, decoder!),
  rowOrder: (linear, { decoder }) => rowOrder(linear, decoder!),
  layOut: async (model) => ({ shards: [await layOut(model)], files: new Map() }),
  open: openGguf,
};

/**
 * The `gguf` format of llama.cpp, and of Ollama and LM Studio, which are built on it: the whole model in one file. Symmetric linears of 4 bits are Q4_0 there,
 * asymmetric ones Q4_1, or Q4_K where they lie in super-blocks, symmetric ones of 8 bits Q8_0, all to the last bit. lm_head and the embedding may be Q6_K.
 */
export const gguf: Format = {
  name: "gguf",
  bits: [4, 8],
  scaleDtype: () => "F16",
  offsets: "float",
  kQuants: true,
  embeddings: true,
  // Every block of 32 has a scale of its own, whether it differs from its neighbour's or not.
  groupSizes: [32],
  refusesRun({ bits, symmetric, order, table }) {
    if (bits === 6 && table !== true) return "gguf holds 4 or 8 bits, not 6: 6 (Q6_K) are for lm_head and the embedding";
    if (bits !== 6 && bits !== 4 && bits !== 8) return `gguf holds 4 or 8 bits, not ${String(bits)}: no type of llama.cpp's has one scale for a group of ${String(bits)}-bit codes`;
    if (bits === 8 && !symmetric) return "gguf holds 8 bits symmetric only (Q8_0)";
    if (order === "act") return "gguf has no act order: its groups lie side by side. Take group-aware, or the format gptq";
    return undefined;
  },
  refusesLinear({ inFeatures }, scheme) {
    const { groupSize } = scheme;
    const { name, group, weights } = typeOf(scheme);
    if (inFeatures % weights !== 0) return `its ${String(inFeatures)} input channels are not a multiple of ${String(weights)}, the block of ${name}`;
    if (groupSize % group !== 0) return `groups of ${String(groupSize)} are no whole blocks of ${String(group)}, as ${name} has them`;
    return inFeatures % groupSize === 0 ? undefined : `its ${String(inFeatures)} input channels are not a multiple of the group size ${String(groupSize)}`;
  },
  programs: ["llama.cpp"],
  notes: () => [],
  runNotes: () => [],
  layout: (name, { outFeatures, inFeatures }, scheme) => [blocksSpec(name, outFeatures, inFeatures, typeOf(scheme))],
  pack(name, linear) {
    const { outFeatures, inFeatures, scheme, groupOf } = linear;
    if (groupOf !== undefined) throw new InputError(`${name} has its channels in act order, which gguf does not hold`);
    const type = typeOf(scheme);
    return [{ ...blocksSpec(name, outFeatures, inFeatures, type), bytes: type.pack(name, linear) }];
  },
  config: () => ({ files: {} }),
  // A GGUF file says itself how it is packed, not the config.json beside it.
  detect: () => undefined,
  container,
};

function typeOf(scheme: QuantScheme): NonNullable<ReturnType<typeof blockTypeOf>> {
  const type = blockTypeOf(scheme);
  if (type === undefined) throw new InputError(`gguf has no type for ${String(scheme.bits)} bits, ${scheme.symmetric ? "symmetric" : "asymmetric"}`);
  return type;
}
