import { InputError } from "../../errors.js";
import type { OnnxNode } from "../../onnx/model.js";
import { microsoft } from "../../onnx/operators.js";
import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import type { Bits, QuantScheme } from "../../quantize/scheme.js";
import { fromFloat32, toFloat32 } from "../../safetensors/floats.js";
import type { Tensor, TensorSpec } from "../../safetensors/tensor.js";
import { alongRows, packBits, unpackBits } from "../bits.js";
import { bytesOf, expectFinite, expectTensor, wordsOf } from "../packed-tensors.js";

/**
 * How ONNX Runtime's operator MatMulNBits keeps a weight [out, in] (docs/ContribOperators.md): codes U8 [out, blocks, block·bits/8], low
 * bits first; scales F32 [out, blocks]; zero points U8 [out, ⌈blocks·bits/8⌉], left out where all of them are 2^(bits−1).
 */
interface Linear {
  readonly outFeatures: number;
  readonly inFeatures: number;
}

/** The bits that MatMulNBits computes with and that transformers.js has a name for. */
export const PACKED_BITS = [4, 8] as const satisfies readonly Bits[];

const LEAST_BLOCK = 16;
const LARGEST_BLOCK = 256;

export const SCALES = "weight_scales";
export const ZERO_POINTS = "weight_zero_points";
/** Blocks of 32 with 4 bits and of 16 with 8 have the same shape: the name tells them apart. */
export const codesSuffix = (bits: Bits): string => `weight_Q${bits}`;

/** Input channels of a block: the largest that MatMulNBits takes and that a group is a whole number of; undefined if there is none. */
export function blockSize(groupSize: number): number | undefined {
  // The lowest bit that is set.
  const power = Math.min(LARGEST_BLOCK, groupSize & -groupSize);
  return power < LEAST_BLOCK ? undefined : power;
}

/** The tensors of a quantized linear. */
export function layout(name: string, { outFeatures, inFeatures }: Linear, { bits, groupSize, symmetric }: QuantScheme): TensorSpec[] {
  const block = blockSize(groupSize)!;
  const blocks = inFeatures / block;
  return [
    { name: `${name}.${codesSuffix(bits)}`, dtype: "U8", shape: [outFeatures, blocks, (block * bits) / 8] },
    { name: `${name}.${SCALES}`, dtype: "F32", shape: [outFeatures, blocks] },
    ...(symmetric ? [] : [{ name: `${name}.${ZERO_POINTS}`, dtype: "U8", shape: [outFeatures, Math.ceil((blocks * bits) / 8)] } as const]),
  ];
}

/** The same with their bytes. A group of several blocks repeats its scale and zero point. */
export function pack(name: string, linear: QuantizedLinear): Tensor[] {
  const { outFeatures, inFeatures, scheme, codes, scales, zeros } = linear;
  const { bits, groupSize } = scheme;
  const repeats = groupSize / blockSize(groupSize)!;
  const bytes = [
    bytesOf(packBits(codes, alongRows(outFeatures, inFeatures, bits))),
    fromFloat32(repeated(scales, repeats), "F32"),
    ...(scheme.symmetric ? [] : [packRows(repeated(zeros, repeats), outFeatures, bits)]),
  ];
  return layout(name, linear, scheme).map((spec, i) => ({ ...spec, bytes: bytes[i] }));
}

/** The inverse; throws `InputError` naming the tensor that is missing, of the wrong shape, or not finite. */
export function unpack(name: string, tensors: ReadonlyMap<string, Tensor>): QuantizedLinear {
  const bits = bitsOf(tensors);
  const codes = expectTensor(tensors, name, codesSuffix(bits), ["U8"], [undefined, undefined, undefined]);
  const [outFeatures, blocks] = codes.shape;
  const groupSize = groupSizeOf(codes.shape, bits);
  if (blockSize(groupSize) !== groupSize) throw new InputError(`${name}.${codesSuffix(bits)} has blocks of ${groupSize} channels; MatMulNBits has powers of two from ${LEAST_BLOCK} to ${LARGEST_BLOCK}`);
  const inFeatures = blocks * groupSize;
  const scales = toFloat32(expectTensor(tensors, name, SCALES, ["F32"], [outFeatures, blocks]).bytes, "F32");
  expectFinite(scales, `${name}.${SCALES}`);
  const symmetric = !tensors.has(ZERO_POINTS);
  const zeros = symmetric
    ? new Uint8Array(outFeatures * blocks).fill(2 ** (bits - 1))
    : unpackRows(expectTensor(tensors, name, ZERO_POINTS, ["U8"], [outFeatures, Math.ceil((blocks * bits) / 8)]).bytes, outFeatures, blocks, bits);
  return {
    outFeatures, inFeatures, scales, zeros,
    scheme: { bits, groupSize, symmetric, scaleDtype: "F32" },
    codes: unpackBits(wordsOf(codes), alongRows(outFeatures, inFeatures, bits)),
  };
}

/** The bits of a linear's codes, by the suffixes of its tensors. */
export function bitsOf(tensors: ReadonlyMap<string, unknown>): Bits {
  return PACKED_BITS.find((bits) => tensors.has(codesSuffix(bits))) ?? PACKED_BITS[0];
}

/** Input channels of a block, by the shape of the codes. */
export const groupSizeOf = (shape: readonly number[], bits: Bits): number => (shape[2] * 8) / bits;

/** y = x · Wᵀ for a linear that lies as `layout` says. */
export function productNode(name: string, { outFeatures, inFeatures }: Linear, { bits, groupSize, symmetric }: QuantScheme, x: string, y: string): OnnxNode {
  return {
    op: "MatMulNBits", ...microsoft,
    inputs: [x, `${name}.${codesSuffix(bits)}`, `${name}.${SCALES}`, ...(symmetric ? [] : [`${name}.${ZERO_POINTS}`])],
    outputs: [y],
    // Without an accuracy level its products are of floats, as they were when the codes were chosen. Level 4 would round x to 8 bits: with SmolLM2-135M
    // that costs a KL divergence of 0.02 to 0.03, half of what 4 bits cost in all.
    ints: { K: inFeatures, N: outFeatures, bits, block_size: blockSize(groupSize)! },
  };
}

const ROWS = ".rows";

/** A second name of an embedding's codes, for GatherBlockQuantized, which wants their bytes by row [out, in·bits/8]. */
export const rowsName = (codes: string): string => `${codes}${ROWS}`;

/** Whether a weight is such a second name. */
export const isRows = (name: string): boolean => name.endsWith(ROWS);

/** The rows [.., in] of a quantized embedding for tokens [..]. */
export function gatherNode(name: string, { bits, groupSize, symmetric }: QuantScheme, tokens: string, rows: string): OnnxNode {
  return {
    op: "GatherBlockQuantized", ...microsoft,
    inputs: [rowsName(`${name}.${codesSuffix(bits)}`), tokens, `${name}.${SCALES}`, ...(symmetric ? [] : [`${name}.${ZERO_POINTS}`])],
    outputs: [rows],
    ints: { bits, block_size: blockSize(groupSize)!, gather_axis: 0, quantize_axis: 1 },
  };
}

function repeated<A extends Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>>(values: A, times: number): A {
  if (times === 1) return values;
  const out = new (values.constructor as new (length: number) => A)(values.length * times);
  for (let i = 0; i < values.length; i++) out.fill(values[i], i * times, (i + 1) * times);
  return out;
}

/** Packs codes [rows, cols] so that every row begins at a byte of its own. */
function packRows(codes: Uint8Array<ArrayBuffer>, rows: number, bits: Bits): Uint8Array<ArrayBuffer> {
  const cols = codes.length / rows;
  const words = bytesOf(packBits(codes, alongRows(rows, cols, bits)));
  const stride = words.length / rows;
  const width = Math.ceil((cols * bits) / 8);
  const out = new Uint8Array(rows * width);
  for (let row = 0; row < rows; row++) out.set(words.subarray(row * stride, row * stride + width), row * width);
  return out;
}

function unpackRows(bytes: Uint8Array<ArrayBuffer>, rows: number, cols: number, bits: Bits): Uint8Array<ArrayBuffer> {
  const width = bytes.length / rows;
  const stride = Math.ceil(width / 4) * 4;
  const words = new Uint8Array(rows * stride);
  for (let row = 0; row < rows; row++) words.set(bytes.subarray(row * width, (row + 1) * width), row * stride);
  return unpackBits(new Uint32Array(words.buffer), alongRows(rows, cols, bits));
}
