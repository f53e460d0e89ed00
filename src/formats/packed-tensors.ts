import { InputError } from "../errors.js";
import type { Tensor } from "../safetensors/tensor.js";

/** The dtypes that packed linears are made of, and the bytes of an element. */
const BYTES = { U8: 1, F16: 2, BF16: 2, F32: 4, I32: 4, U32: 4, I64: 8 } as const;

/**
 * The tensor `${name}.${suffix}` of a packed linear, once its dtype is one of `dtypes`, its rank is that of `shape`, every
 * dimension that `shape` knows is right, and its bytes are as many as its shape says. Throws `InputError` naming it if not.
 */
export function expectTensor<D extends keyof typeof BYTES>(
  tensors: ReadonlyMap<string, Tensor>,
  name: string,
  suffix: string,
  dtypes: readonly D[],
  shape: readonly (number | undefined)[],
): Tensor & { readonly dtype: D } {
  const tensor = tensors.get(suffix);
  if (tensor === undefined) throw new InputError(`${name}.${suffix} is missing`);
  const dtype = dtypes.find((d) => d === tensor.dtype);
  if (dtype === undefined) throw new InputError(`${name}.${suffix} is ${tensor.dtype}; expected ${dtypes.join(" or ")}`);
  const fits = tensor.shape.length === shape.length && shape.every((n, i) => n === undefined || n === tensor.shape[i]);
  if (!fits) {
    throw new InputError(`${name}.${suffix} has shape [${tensor.shape.join(", ")}]; expected [${shape.map((n) => n ?? "any").join(", ")}]`);
  }
  const count = tensor.shape.reduce((product, n) => product * n, 1);
  if (count === 0) throw new InputError(`${name}.${suffix} has shape [${tensor.shape.join(", ")}]: nothing is in it`);
  const needed = count * BYTES[dtype];
  if (tensor.bytes.byteLength !== needed) throw new InputError(`${name}.${suffix} has ${tensor.bytes.byteLength} bytes; its shape needs ${needed}`);
  return { ...tensor, dtype };
}

/** The 32-bit words of a tensor; a copy where its bytes are not aligned. */
export function wordsOf(tensor: Tensor): Uint32Array<ArrayBuffer> {
  const { bytes } = tensor;
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >> 2);
}

/** The bytes of 32-bit words, not copied. */
export function bytesOf(words: Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

const TILE = 8;

/** [rows, cols] → [cols, rows]. */
export function transposed(values: Float32Array, rows: number, cols: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  // A few columns at a time: so many places to write to at once, a cache keeps.
  for (let first = 0; first < cols; first += TILE) {
    const end = Math.min(first + TILE, cols);
    for (let r = 0; r < rows; r++) for (let c = first; c < end; c++) out[c * rows + r] = values[r * cols + c]!;
  }
  return out;
}

/** Finite, or an `InputError` naming the tensor. */
export function expectFinite(values: Float32Array, tensorName: string): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) throw new InputError(`${tensorName} holds ${values[i]} at ${i}`);
  }
}
