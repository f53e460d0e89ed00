import { InputError } from "../../errors.js";
import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import { fromFloat32, toFloat32 } from "../../safetensors/floats.js";
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

/** Values as float16 bits. Throws `InputError` where float16 cannot hold one. */
export function halvesOf(values: Float32Array, what: string): Uint16Array {
  const bytes = fromFloat32(values, "F16");
  const held = toFloat32(bytes, "F16");
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== held[i]) throw new InputError(`${what}: ${String(values[i])} at ${String(i)} does not fit F16`);
  }
  return new Uint16Array(bytes.buffer);
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
