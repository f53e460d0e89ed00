/**
 * Every dtype that safetensors 0.8 defines (`Dtype` in its Rust crate), with the bits of one element. Elements smaller than a
 * byte are packed, and a tensor of them must still fill whole bytes.
 */
export const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type Dtype = keyof typeof DTYPE_BITS;

/** Whether a header's word for a dtype is one that we know. */
export function isDtype(value: unknown): value is Dtype {
  return typeof value === "string" && Object.hasOwn(DTYPE_BITS, value);
}

/** How many elements a shape holds; 1 for a scalar, whose shape is []. Infinity past 2^53, even where a 0 follows. */
function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) {
    count *= size;
    if (count > Number.MAX_SAFE_INTEGER) return Infinity;
  }
  return count;
}

/** Bytes of a tensor. Infinity where there are too many to count; no whole number where the elements do not fill bytes. */
export function byteSize(dtype: Dtype, shape: readonly number[]): number {
  const bits = elementCount(shape) * DTYPE_BITS[dtype];
  // Beyond 2^53 a float drops low bits, and could pass for whole bytes.
  return bits > Number.MAX_SAFE_INTEGER ? Infinity : bits / 8;
}
