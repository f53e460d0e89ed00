import type { Decoder } from "../../model/decoder.js";
import { ARCHITECTURES } from "./architectures.js";

const TURNED = /^model\.layers\.(\d+)\.self_attn\.([qk])_proj$/;

/**
 * Which row of q or k is stored as which: `order[stored]` is the row of the source. llama.cpp's `llama` turns rows 2j and 2j + 1 of a head
 * together, transformers rows j and j + headDim / 2. Undefined where rows stay as they are.
 */
export function rowOrder(module: string, decoder: Decoder): Int32Array<ArrayBuffer> | undefined {
  const [, index, which] = TURNED.exec(module) ?? [];
  if (index === undefined || ARCHITECTURES.get(decoder.family)?.turnsNeighbours !== true) return undefined;
  const { heads, kvHeads, headDim } = decoder.layer(Number(index));
  const half = headDim / 2;
  return Int32Array.from({ length: (which === "q" ? heads : kvHeads) * headDim }, (_, stored) => {
    const within = stored % headDim;
    return stored - within + (within >> 1) + (within % 2) * half;
  });
}

/** Rows of `rowBytes` bytes in another order: `order[i]` is the row that comes to stand at i. */
export function reordered(bytes: Uint8Array, rowBytes: number, order: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i < order.length; i++) out.set(bytes.subarray(order[i] * rowBytes, (order[i] + 1) * rowBytes), i * rowBytes);
  return out;
}

/** The order that undoes an order. */
export function inverse(order: Int32Array): Int32Array<ArrayBuffer> {
  const back = new Int32Array(order.length);
  order.forEach((row, stored) => {
    back[row] = stored;
  });
  return back;
}
