import { InputError } from "../errors.js";
import type { PackedFormat } from "../formats/format.js";
import { decoderOf } from "../model/decoder-of.js";
import type { Decoder } from "../model/decoder.js";
import { withOwnHead } from "../model/head.js";
import { dequantize, dequantizeRows } from "../quantize/dequantize.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import type { ReadRows, ReadTensor } from "../model/weights.js";
import type { Checkpoint } from "../source/checkpoint.js";
import type { Source } from "../source/source.js";
import { checkPacked } from "./check-packed.js";
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

/** Opens a model and checks that it has all its weights. Throws `InputError`. */
export async function openModel(source: Source): Promise<Model> {
  const weights = await openWeights(source);
  const { checkpoint, packed } = weights;
  const decoder = withOwnHead(decoderOf(checkpoint.config, `${source.label}/config.json`), checkpoint.tensors);
  const linears = checkPacked(weights, decoder);
  const { read } = packedLinears(weights);

  /** Its codes; undefined for a tensor that is not packed. */
  async function unpack(name: string): Promise<QuantizedLinear | undefined> {
    const linear = linears.get(name);
    if (linear === undefined) return undefined;
    const unpacked = await read(linear.name);
    // A format may keep the shape among its values.
    const { outFeatures, inFeatures } = linear;
    if (unpacked.outFeatures !== outFeatures || unpacked.inFeatures !== inFeatures) {
      throw new InputError(`${source.label}: ${linear.name} is packed as [${String(unpacked.outFeatures)}, ${String(unpacked.inFeatures)}], but config.json implies [${String(outFeatures)}, ${String(inFeatures)}]`);
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
