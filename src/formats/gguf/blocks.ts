import { InputError } from "../../errors.js";
import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import type { Tensor, TensorSpec } from "../../safetensors/tensor.js";
import type { PackedFormat } from "../format.js";
import { BLOCK_TYPES, type BlockType } from "./block-types.js";

/** What a packed linear's one tensor is called after its module: [out, in / weights of a block, bytes of a block], whose last size tells the type. */
export const BLOCKS = "blocks";

/** The tensor of a packed linear, as it lies in the file. */
export function blocksSpec(module: string, outFeatures: number, inFeatures: number, { weights, bytes }: BlockType): TensorSpec {
  return { name: `${module}.${BLOCKS}`, dtype: "U8", shape: [outFeatures, inFeatures / weights, bytes] };
}

/** The type of blocks of this shape; undefined if it is none that is read. */
export function blockTypeOfShape(shape: readonly number[]): BlockType | undefined {
  return shape.length === 3 ? BLOCK_TYPES.find(({ bytes }) => bytes === shape[2]) : undefined;
}

/** Reads the packed linears of a file of which most are of this type. */
export function packedIn({ bits, group, symmetric }: BlockType): PackedFormat {
  return {
    format: "gguf", bits, groupSize: group, symmetric,
    suffixes: [BLOCKS], optionalSuffixes: [],
    bitsOf: (shapes) => blockTypeOfShape(shapes.get(BLOCKS) ?? [])?.bits ?? bits,
    unpack: (name, tensors) => unpack(name, tensors.get(BLOCKS)),
  };
}

function unpack(name: string, tensor: Tensor | undefined): QuantizedLinear {
  if (tensor === undefined) throw new InputError(`${name}.${BLOCKS} is missing`);
  const type = blockTypeOfShape(tensor.shape);
  if (type === undefined) throw new InputError(`${name}.${BLOCKS} has shape [${tensor.shape.join(", ")}], which is of no type that is read: ${BLOCK_TYPES.map((one) => one.name).join(", ")}`);
  const [rows, blocks] = tensor.shape;
  return type.unpack(name, tensor.bytes, rows, blocks * type.weights);
}
