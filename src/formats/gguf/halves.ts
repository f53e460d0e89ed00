import { InputError } from "../../errors.js";
import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import { fromFloat32, roundToDtype, toFloat32 } from "../../safetensors/floats.js";
import { BLOCK_WEIGHTS } from "./nibbles.js";

/**
 * A value of each group [out, in / groupSize] as float16 bits for each block of 32 weights [out, in / 32]: longer groups repeat theirs.
 * Throws `InputError` where float16 cannot hold a value. `what` names them in messages: "the scales of model.layers.0.mlp.up_proj".
 */
export function halvesOfBlocks(values: Float32Array, { inFeatures, scheme: { groupSize } }: QuantizedLinear, what: string): Uint16Array {
  const halves = halvesOf(values, what);
  const repeat = groupSize / BLOCK_WEIGHTS;
  if (repeat === 1) return halves;
  if (!Number.isInteger(repeat) || inFeatures % groupSize !== 0) throw new Error(`${what}: groups of ${String(groupSize)} are no whole blocks`);
  const blocks = new Uint16Array(halves.length * repeat);
  for (let group = 0; group < halves.length; group++) blocks.fill(halves[group], group * repeat, (group + 1) * repeat);
  return blocks;
}

/** Float32 values from 2^-14 to below 2^16 are float16 as they are where these bits of theirs are zero. */
const BEYOND_HALF = 0x1fff;
const LEAST = 0x3880_0000;
const BEYOND_MOST = 0x4780_0000;

/** Values as float16 bits. Throws `InputError` where float16 cannot hold one. */
export function halvesOf(values: Float32Array, what: string): Uint16Array {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const magnitude = bits[i] & 0x7fff_ffff;
    const held = (magnitude & BEYOND_HALF) === 0 && magnitude >= LEAST && magnitude < BEYOND_MOST;
    if (!held && values[i] !== roundToDtype(values[i], "F16")) throw new InputError(`${what}: ${String(values[i])} at ${String(i)} does not fit F16`);
  }
  return new Uint16Array(fromFloat32(values, "F16").buffer);
}

/** Every `stride`-th halfword from `first` on, as float32. Throws `InputError` where one is not finite. */
export function floatsAt(packed: Uint16Array, first: number, stride: number, what: string): Float32Array<ArrayBuffer> {
  const halves = new Uint16Array(packed.length / stride);
  for (let i = 0; i < halves.length; i++) halves[i] = packed[i * stride + first];
  const floats = toFloat32(new Uint8Array(halves.buffer), "F16");
  for (let i = 0; i < floats.length; i++) {
    if (!Number.isFinite(floats[i])) throw new InputError(`${what}: block ${String(i)} holds ${String(floats[i])}`);
  }
  return floats;
}
