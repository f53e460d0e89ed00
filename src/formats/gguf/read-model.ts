import { InputError } from "../../errors.js";
import type { Decoder } from "../../model/decoder.js";
import { byteSize } from "../../safetensors/dtypes.js";
import { fromFloat32, isFloatDtype, toFloat32 } from "../../safetensors/floats.js";
import type { Dtype } from "../../safetensors/dtypes.js";
import type { TensorEntry } from "../../safetensors/header.js";
import { quote } from "../../safetensors/json.js";
import type { PackedFormat } from "../format.js";
import { BLOCK_TYPES, type BlockType } from "./block-types.js";
import { blocksSpec, packedIn } from "./blocks.js";
import type { GgufEntry, GgufFile } from "./read-header.js";
import { inverse, reordered, rowOrder } from "./row-order.js";
import { normPlus } from "./stored.js";
import { ROPE_FACTORS, sourceNames } from "./tensor-names.js";

/** A tensor of a GGUF file under the name that it has in a safetensors checkpoint; a packed linear's is called `${module}.blocks`. */
interface RestoredTensor extends TensorEntry {
  /** From its bytes in the file, all of them, to those of a checkpoint: rows in their own order, norms without what the decoder adds. Absent where they are the same. */
  readonly restore?: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
}

/** A model in a GGUF file, as a checkpoint. */
interface GgufModel {
  readonly tensors: readonly RestoredTensor[];
  /** Absent where nothing is packed. */
  readonly packed: PackedFormat | undefined;
}

/**
 * What a GGUF file holds of a decoder. Throws `InputError` naming the tensor that the decoder does not have, or that is of a type that is not read.
 * @param where the file's name, for messages
 */
export function ggufModel({ tensors }: GgufFile, decoder: Decoder, where: string): GgufModel {
  const names = sourceNames(decoder);
  const restored: RestoredTensor[] = [];
  const weights = new Map<BlockType, number>();
  for (const entry of tensors.values()) {
    // Made of config.json by whoever wrote the file.
    if (entry.name === ROPE_FACTORS) continue;
    const name = names.get(entry.name);
    if (name === undefined) throw new InputError(`${where}: tensor ${quote(entry.name)} is none that config.json implies`);
    const type = BLOCK_TYPES.find((one) => one.name === entry.type.name);
    restored.push(type === undefined ? plain(entry, name, decoder, where) : packed(entry, name, type, decoder, where));
    if (type !== undefined) weights.set(type, (weights.get(type) ?? 0) + entry.end - entry.start);
  }
  const [most] = [...weights].sort(([, a], [, b]) => b - a);
  return { tensors: restored, packed: most && packedIn(most[0]) };
}

function plain({ name: own, type, shape, start, end }: GgufEntry, name: string, decoder: Decoder, where: string): RestoredTensor {
  // ggml's names of float types are those of safetensors.
  const dtype = type.name as Dtype;
  if (!isFloatDtype(dtype)) throw new InputError(`${where}: tensor ${quote(own)} is ${type.name}; F32, F16, BF16, F64, ${BLOCK_TYPES.map((one) => one.name).join(", ")} can be read`);
  const order = inverseOrder(name, decoder);
  const plus = normPlus(name, shape, decoder);
  const spec = { name, dtype, shape, start, end };
  if (order !== undefined) return { ...spec, restore: (bytes) => reordered(bytes, byteSize(dtype, shape.slice(1)), order) };
  return plus === 0 ? spec : { ...spec, restore: (bytes) => fromFloat32(toFloat32(bytes, dtype).map((value) => value - plus), dtype) };
}

function packed({ name: own, shape, start, end }: GgufEntry, name: string, type: BlockType, decoder: Decoder, where: string): RestoredTensor {
  if (shape.length !== 2) throw new InputError(`${where}: tensor ${quote(own)} is ${type.name} of shape ${quote(shape)}; only matrices of it can be read`);
  const [outFeatures, inFeatures] = shape;
  const order = inverseOrder(name, decoder);
  const rowBytes = (inFeatures / type.weights) * type.bytes;
  return {
    ...blocksSpec(moduleOf(name), outFeatures, inFeatures, type), start, end,
    ...(order && { restore: (bytes: Uint8Array<ArrayBuffer>) => reordered(bytes, rowBytes, order) }),
  };
}

function inverseOrder(name: string, decoder: Decoder): Int32Array | undefined {
  const order = rowOrder(moduleOf(name), decoder);
  return order && inverse(order);
}

function moduleOf(name: string): string {
  return name.replace(/\.(weight|bias)$/, "");
}
