import { InputError } from "../../errors.js";
import type { Decoder } from "../../model/decoder.js";
import { byteSize } from "../../safetensors/dtypes.js";
import { fromFloat32, isFloatDtype, toFloat32, type FloatDtype } from "../../safetensors/floats.js";
import type { TensorSpec } from "../../safetensors/tensor.js";
import type { Stored } from "../format.js";
import { reordered, rowOrder } from "./row-order.js";
import { ggufName } from "./tensor-names.js";

/**
 * How a tensor that stays unquantized is stored: norms and biases as F32, which is all that llama.cpp computes with, norms with what the
 * decoder adds to them; matrices in their own dtype, F64 as F32. Undefined for what the decoder does not use. Throws `InputError` for one that is not of floats.
 */
export function storedTensor({ name, dtype, shape }: TensorSpec, decoder: Decoder): Stored | undefined {
  if (ggufName(name, decoder) === undefined) return undefined;
  if (!isFloatDtype(dtype)) throw new InputError(`${name} is ${dtype}; gguf is written from floats`);
  const to = shape.length > 1 && dtype !== "F64" ? dtype : "F32";
  const order = rowOrder(name.replace(/\.(weight|bias)$/, ""), decoder);
  const rowBytes = byteSize(dtype, shape.slice(1));
  // Rows move within their head alone.
  const headOrder = order?.subarray(0, decoder.layer(0).headDim);
  const plus = normPlus(name, shape, decoder);
  return {
    spec: { name, dtype: to, shape },
    unit: headOrder === undefined ? byteSize(dtype, []) : headOrder.length * rowBytes,
    convert: (bytes) => converted(headOrder === undefined ? bytes : byHeads(bytes, rowBytes, headOrder), dtype, to, plus),
  };
}

/** What is added to a norm's weights in the file; 0 for all other tensors. */
export function normPlus(name: string, shape: readonly number[], decoder: Decoder): number {
  return shape.length === 1 && name.endsWith(".weight") ? decoder.finalNorm.plus : 0;
}

function converted(bytes: Uint8Array<ArrayBuffer>, from: FloatDtype, to: FloatDtype, plus: number): Uint8Array<ArrayBuffer> {
  if (from === to && plus === 0) return bytes;
  const values = toFloat32(bytes, from);
  return fromFloat32(plus === 0 ? values : values.map((value) => value + plus), to);
}

function byHeads(bytes: Uint8Array<ArrayBuffer>, rowBytes: number, headOrder: Int32Array): Uint8Array<ArrayBuffer> {
  const headBytes = headOrder.length * rowBytes;
  const out = new Uint8Array(bytes.length);
  for (let at = 0; at < bytes.length; at += headBytes) out.set(reordered(bytes.subarray(at, at + headBytes), rowBytes, headOrder), at);
  return out;
}
