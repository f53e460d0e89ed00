import { InputError } from "../errors.js";
import type { PackedFormat } from "../formats/format.js";
import { checkShapes } from "../model/check-shapes.js";
import { decoderOf } from "../model/decoder-of.js";
import type { Decoder, LinearSpec } from "../model/decoder.js";
import { lmHeadOf, withOwnHead } from "../model/head.js";
import { dequantize, dequantizeRows } from "../quantize/dequantize.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import type { ReadRows, ReadTensor } from "../model/weights.js";
import type { Checkpoint } from "../source/checkpoint.js";
import type { Source } from "../source/source.js";
import { openWeights } from "./open-weights.js";
import { packedLinears } from "./packed-linears.js";

/** A model that can be run: its weights as float32, whether they are stored plain or packed in one of our formats. */
export interface Model {
  readonly checkpoint: Checkpoint;
  readonly decoder: Decoder;
  /** Absent for a plain checkpoint. */
  readonly packed: PackedFormat | undefined;
  /** Values of a tensor; a packed linear is found under the name of its weight, and comes as [out, in]. */
  readonly load: ReadTensor;
  /**
   * Some rows of the embedding or of lm_head, in the order asked for [rows.length, hidden]. Of a packed one, the codes of the last that
   * was asked for stay in memory.
   */
  readonly loadRows: ReadRows;
}

/** Everything of a decoder that may be packed: the linears of its layers, lm_head and the embedding. */
function linearsIn(decoder: Decoder): LinearSpec[] {
  const { vocabSize, hiddenSize, embedding } = decoder;
  const tables = [lmHeadOf(decoder), { name: embedding.tensor.replace(/\.weight$/, ""), outFeatures: vocabSize, inFeatures: hiddenSize }];
  const all = Array.from({ length: decoder.layers }, (_, layer) => decoder.stages(layer, 1).flatMap((stage) => stage.linears)).flat();
  return [...all, ...tables.filter((table) => table !== undefined)];
}

/** Opens a model and checks that it has all its weights. Throws `InputError`. */
export async function openModel(source: Source): Promise<Model> {
  const weights = await openWeights(source);
  const { checkpoint, packed } = weights;
  const decoder = withOwnHead(decoderOf(checkpoint.config, `${source.label}/config.json`), checkpoint.tensors);
  const { parts, read } = packedLinears(weights);
  /** Of each packed linear's weight: its module, and the shape that config.json implies. */
  const linears = new Map<string, { readonly module: string; readonly shape: readonly number[] }>();
  for (const { name, outFeatures, inFeatures } of linearsIn(decoder)) if (parts.has(name)) linears.set(`${name}.weight`, { module: name, shape: [outFeatures, inFeatures] });
  checkShapes(decoder, new Map<string, { readonly shape: readonly number[] }>([...checkpoint.tensors, ...linears]), source.label);

  /** Its codes; undefined for a tensor that is not packed. */
  async function unpack(name: string): Promise<QuantizedLinear | undefined> {
    const linear = linears.get(name);
    if (linear === undefined) return undefined;
    const unpacked = await read(linear.module);
    const { outFeatures, inFeatures } = unpacked;
    if (outFeatures !== linear.shape[0] || inFeatures !== linear.shape[1]) {
      throw new InputError(`${source.label}: ${linear.module} is packed as [${String(outFeatures)}, ${String(inFeatures)}], but config.json implies [${linear.shape.join(", ")}]`);
    }
    return unpacked;
  }
  let table: { readonly name: string; readonly linear: Promise<QuantizedLinear | undefined> } | undefined;

  return {
    checkpoint, decoder, packed,
    async load(name) {
      const linear = await unpack(name);
      return linear === undefined ? checkpoint.readFloat32(name) : dequantize(linear).data;
    },
    loadRows: async (name, rows) => {
      if (!linears.has(name)) return checkpoint.readRows(name, rows);
      if (table?.name !== name) table = { name, linear: unpack(name) };
      return dequantizeRows((await table.linear)!, rows);
    },
  };
}
