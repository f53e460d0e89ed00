import type { Dtype } from "./dtypes.js";

/** The float dtypes that weights are computed from. */
export const FLOAT_DTYPES = ["F16", "BF16", "F32", "F64"] as const;
export type FloatDtype = (typeof FLOAT_DTYPES)[number];

/** Whether `toFloat32` reads this dtype. */
export function isFloatDtype(dtype: Dtype): dtype is FloatDtype {
  return (FLOAT_DTYPES as readonly Dtype[]).includes(dtype);
}

// All of this reads numbers through typed arrays in the machine's own order, and so needs what every machine that runs Node
// today has: little-endian memory, as in the file.

/**
 * A tensor's little-endian bytes as float32, in memory of its own. F16 and BF16 are exact (NaNs keep their payload); F64 is
 * rounded to nearest even. Throws `RangeError` where the bytes are not whole elements.
 */
export function toFloat32(bytes: Uint8Array<ArrayBuffer>, dtype: FloatDtype): Float32Array<ArrayBuffer> {
  if (dtype === "F32") return view(bytes, Float32Array).slice();
  if (dtype === "F64") return new Float32Array(view(bytes, Float64Array));
  const halves = view(bytes, Uint16Array);
  const bits = new Uint32Array(halves.length);
  if (dtype === "F16") {
    const table = (float16Table ??= makeFloat16Table());
    for (let i = 0; i < halves.length; i++) bits[i] = table[halves[i]]!;
  } else {
    for (let i = 0; i < halves.length; i++) bits[i] = halves[i] << 16;
  }
  return new Float32Array(bits.buffer);
}

/** Float32 values as a tensor's little-endian bytes, rounded to nearest even; too large becomes infinite, NaN stays NaN. */
export function fromFloat32(values: Float32Array, dtype: FloatDtype): Uint8Array<ArrayBuffer> {
  if (dtype === "F32") return new Uint8Array(new Float32Array(values).buffer);
  if (dtype === "F64") return new Uint8Array(new Float64Array(values).buffer);
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(bits.length);
  if (dtype === "F16") for (let i = 0; i < bits.length; i++) halves[i] = float16FromBits(bits[i]);
  else for (let i = 0; i < bits.length; i++) halves[i] = bfloat16FromBits(bits[i]);
  return new Uint8Array(halves.buffer);
}

/** The float32 values that storing in `dtype` and reading back would give. */
export function roundAllToDtype(values: Float32Array, dtype: FloatDtype): Float32Array<ArrayBuffer> {
  return toFloat32(fromFloat32(values, dtype), dtype);
}

const scalar = new Float32Array(1);
const scalarBits = new Int32Array(scalar.buffer);

/** The same for one value, which is rounded to float32 first, as in PyTorch. */
export function roundToDtype(value: number, dtype: FloatDtype): number {
  scalar[0] = value;
  if (dtype === "F16") {
    const bits = scalarBits[0];
    const magnitude = bits & 0x7fff_ffff;
    // Of what stays a normal number only the lower half of the mantissa is rounded away.
    if (magnitude >= 0x3880_0000 && magnitude < 0x477f_f000) scalarBits[0] = (bits + 0xfff + ((bits >>> 13) & 1)) & ~0x1fff;
    else scalarBits[0] = (float16Table ??= makeFloat16Table())[float16FromBits(bits)]!;
  } else if (dtype === "BF16") scalarBits[0] = bfloat16FromBits(scalarBits[0]) << 16;
  return scalar[0];
}

/** A view of bytes as numbers; a copy where they do not lie on a boundary of their own size, which views demand. */
function view<A extends Uint16Array | Float32Array | Float64Array>(
  bytes: Uint8Array<ArrayBuffer>,
  type: { new (buffer: ArrayBuffer, offset: number, length: number): A; readonly BYTES_PER_ELEMENT: number },
): A {
  const size = type.BYTES_PER_ELEMENT;
  if (bytes.length % size !== 0) throw new RangeError(`${bytes.length} bytes are not a whole number of ${size}-byte elements`);
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new type(aligned.buffer, aligned.byteOffset, aligned.length / size);
}

/** The bits of a float16 from those of a float32. */
function float16FromBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude > 0x7f80_0000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x1ff);
  if (magnitude >= 0x4780_0000) return sign | 0x7c00; // 2^16 and more
  if (magnitude >= 0x3880_0000) {
    // Normal, 2^-14 and more. A carry out of the mantissa raises the exponent, up to infinity, as it should.
    return sign | ((magnitude - 0x3800_0000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign; // below half of the smallest subnormal
  const mantissa = (magnitude & 0x7f_ffff) | 0x80_0000;
  const quotient = mantissa >>> shift;
  const twiceRest = (mantissa & ((1 << shift) - 1)) * 2;
  const unit = 1 << shift;
  return sign | (quotient + (twiceRest > unit || (twiceRest === unit && quotient % 2 === 1) ? 1 : 0));
}

/** The bits of a bfloat16 from those of a float32: its upper half, rounded. */
function bfloat16FromBits(bits: number): number {
  if ((bits & 0x7fff_ffff) > 0x7f80_0000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** The float32 bits of every float16: a quarter of a megabyte, made when first needed. */
let float16Table: Uint32Array | undefined;

function makeFloat16Table(): Uint32Array {
  const values = new Float32Array(65_536);
  const bits = new Uint32Array(values.buffer);
  for (let half = 0; half < 65_536; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    const mantissa = half & 0x3ff;
    if (exponent === 0) {
      values[half] = mantissa * 2 ** -24;
      bits[half] |= sign;
    } else {
      bits[half] = sign | ((exponent === 31 ? 255 : exponent + 112) << 23) | (mantissa << 13);
    }
  }
  return bits;
}
