import { InputError } from "../../errors.js";
import { readWeights } from "../../onnx/read-weights.js";
import type { TensorEntry } from "../../safetensors/header.js";
import { quote } from "../../safetensors/json.js";
import type { PackedFormat } from "../format.js";
import { isTable } from "./decoder-graph.js";
import { ELEMENT_OF } from "./element-of.js";
import { bitsOf, codesSuffix, groupSizeOf, isRows, PACKED_BITS, SCALES, unpack, ZERO_POINTS } from "./matmul-nbits.js";

/** A graph of 100 layers takes 600 kB. */
export const MAX_GRAPH_BYTES = 64 * 1024 * 1024;

/** What an ONNX folder of ours holds, under the names of the checkpoint that it was made from. */
export interface OnnxTensors {
  /** [start, end) of `file`. */
  readonly tensors: ReadonlyMap<string, TensorEntry & { readonly file: string }>;
  /** Absent where no linear is quantized. */
  readonly packed: PackedFormat | undefined;
}

const DTYPE_OF = new Map([...ELEMENT_OF].map(([dtype, element]) => [element, dtype]));

/**
 * Reads which tensors lie where, from the graph that Shardsmith wrote.
 * @param graph the .onnx file
 * @param path its path in its folder, as "onnx/model_q4.onnx"
 * @param sizes of the folder's files, by path
 * @param label the folder, for messages
 * @throws InputError naming the file, the tensor and what is wrong with it
 */
export function readOnnx(graph: Uint8Array, path: string, sizes: ReadonlyMap<string, number>, label: string): OnnxTensors {
  const where = `${label}/${path}`;
  const { producer, weights } = readWeights(graph, where);
  if (!producer.startsWith("shardsmith:")) throw new InputError(`${where} was not written by Shardsmith, and so cannot be read: its weights may be named and laid out in any way`);
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const tensors = new Map<string, TensorEntry & { readonly file: string }>();
  for (const { name, type, shape, file, start, end } of weights.values()) {
    if (isTable(name) || isRows(name)) continue;
    const dtype = DTYPE_OF.get(type);
    if (dtype === undefined) throw new InputError(`${where}: weight ${quote(name)} has the element type ${type}, which Shardsmith does not write`);
    const size = sizes.get(folder + file);
    if (size === undefined) throw new InputError(`${where}: weight ${quote(name)} lies in ${folder}${file}, which is missing`);
    if (end > size) throw new InputError(`${label}/${folder}${file}: tensor ${quote(name)} ends at byte ${end}, but the file has only ${size}`);
    tensors.set(name, { name, dtype, shape, file: folder + file, start, end });
  }
  return { tensors, packed: packedFormat(tensors) };
}

function packedFormat(tensors: OnnxTensors["tensors"]): PackedFormat | undefined {
  const codes = PACKED_BITS.map((bits) => ({ bits, all: [...tensors.values()].filter(({ name, shape }) => name.endsWith(`.${codesSuffix(bits)}`) && shape.length === 3) }));
  const { bits, all } = codes.reduce((most, some) => (some.all.length > most.all.length ? some : most));
  if (all.length === 0) return undefined;
  return {
    format: "onnx", bits,
    groupSize: groupSizeOf(all[0].shape, bits),
    symmetric: ![...tensors.keys()].some((name) => name.endsWith(`.${ZERO_POINTS}`)),
    bitsOf: (shapes) => bitsOf(shapes),
    suffixes: [SCALES],
    optionalSuffixes: [...PACKED_BITS.map(codesSuffix), ZERO_POINTS],
    unpack,
  };
}
