import type { Dtype } from "./dtypes.js";

/** What a header says of a tensor: enough to lay out a file before any bytes exist. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** A named tensor with its bytes: little-endian, row-major, as safetensors stores them. */
export interface Tensor extends TensorSpec {
  readonly bytes: Uint8Array<ArrayBuffer>;
}
