import { InputError } from "../errors.js";
import type { PackedFormat } from "../formats/format.js";
import { detectFormat } from "../formats/formats.js";
import { checkShapes } from "../model/check-shapes.js";
import { decoderOf } from "../model/decoder-of.js";
import type { Decoder } from "../model/decoder.js";
import { dequantize } from "../quantize/dequantize.js";
import type { ReadTensor } from "../model/weights.js";
import type { Tensor } from "../safetensors/tensor.js";
import { openCheckpoint, type Checkpoint } from "../source/checkpoint.js";
import type { Source } from "../source/source.js";

/** A model that can be run: its weights as float32, whether they are stored plain or packed in one of our formats. */
export interface Model {
  readonly checkpoint: Checkpoint;
  readonly decoder: Decoder;
  /** Absent for a plain checkpoint. */
  readonly packed: PackedFormat | undefined;
  /** Values of a tensor; a packed linear is found under the name of its weight, and comes as [out, in]. */
  readonly load: ReadTensor;
}

/** A tied config beside an lm_head of its own: transformers 5 takes the latter. */
function withOwnHead(decoder: Decoder, { tensors }: Checkpoint): Decoder {
  const tensor = "lm_head.weight";
  return decoder.lmHead.tied && tensors.has(tensor) ? { ...decoder, lmHead: { ...decoder.lmHead, tensor, tied: false } } : decoder;
}

/** Opens a model and checks that it has all its weights. Throws `InputError`. */
export async function openModel(source: Source): Promise<Model> {
  const checkpoint = await openCheckpoint(source);
  const decoder = withOwnHead(decoderOf(checkpoint.config, `${source.label}/config.json`), checkpoint);
  const packed = detectFormat(checkpoint.config);
  const { tensors } = checkpoint;
  /** Of each packed linear's weight: its module, and the shape that config.json implies. */
  const linears = new Map<string, { readonly module: string; readonly shape: readonly number[] }>();
  if (packed !== undefined) {
    for (let layer = 0; layer < decoder.layers; layer += 1) {
      for (const { name, outFeatures, inFeatures } of decoder.stages(layer, 1).flatMap((stage) => stage.linears)) {
        if (packed.suffixes.every((suffix) => tensors.has(`${name}.${suffix}`))) linears.set(`${name}.weight`, { module: name, shape: [outFeatures, inFeatures] });
      }
    }
  }
  checkShapes(decoder, new Map<string, { readonly shape: readonly number[] }>([...tensors, ...linears]), source.label);

  return {
    checkpoint, decoder, packed,
    async load(name) {
      const linear = linears.get(name);
      if (packed === undefined || linear === undefined) return checkpoint.readFloat32(name);
      const parts = [...packed.suffixes, ...packed.optionalSuffixes].filter((suffix) => tensors.has(`${linear.module}.${suffix}`));
      const read = await checkpoint.readMany(parts.map((suffix) => `${linear.module}.${suffix}`));
      const { rows, cols, data } = dequantize(packed.unpack(linear.module, new Map(parts.map((suffix): [string, Tensor] => [suffix, read.get(`${linear.module}.${suffix}`)!]))));
      if (rows !== linear.shape[0] || cols !== linear.shape[1]) {
        throw new InputError(`${source.label}: ${linear.module} is packed as [${String(rows)}, ${String(cols)}], but config.json implies [${linear.shape.join(", ")}]`);
      }
      return data;
    },
  };
}
