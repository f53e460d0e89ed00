import type { Format } from "../formats/format.js";
import { integerZeros } from "../formats/integer-zeros.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import { CHECKPOINT_GROUP_SIZES, type QuantScheme, type ScaleDtype } from "../quantize/scheme.js";
import { roundAllToDtype } from "../safetensors/floats.js";

/** A linear as a format would hold it, or why it cannot hold it exactly. */
export type Held = { readonly linear: QuantizedLinear } | { readonly why: string };

/**
 * The same linear, value by value, as a format holds it: larger groups are cut where it takes smaller ones only, and where a group's grid lies is said as
 * it says it.
 * @param scaleDtype in which the format keeps scales
 */
export function heldIn(format: Format, given: QuantizedLinear, scaleDtype: ScaleDtype): Held {
  const linear = withZeroPoints(given);
  const { bits, symmetric } = linear.scheme;
  const act = linear.groupOf !== undefined;
  const refusal = format.refusesRun({ bits, symmetric, order: act ? "act" : "natural" });
  if (refusal !== undefined) return { why: refusal };
  const scheme: QuantScheme = { ...linear.scheme, scaleDtype };
  const sizes = [scheme.groupSize, ...(act ? [] : CHECKPOINT_GROUP_SIZES.filter((size) => size < scheme.groupSize && scheme.groupSize % size === 0).reverse())];
  const groupSize = sizes.find((size) => format.refusesLinear(linear, { ...scheme, groupSize: size }) === undefined);
  if (groupSize === undefined) return { why: format.refusesLinear(linear, scheme)! };
  const why = notRepresentable(linear, scaleDtype, format.offsets === "float");
  return why === undefined ? { linear: cut({ ...linear, scheme }, groupSize) } : { why };
}

/** With integer zero points, if its offsets are such; symmetric, if all are in the middle. */
function withZeroPoints(linear: QuantizedLinear): QuantizedLinear {
  const { outFeatures, inFeatures, codes, scales, offsets, groupOf, scheme: { bits, groupSize, scaleDtype } } = linear;
  const zeros = offsets === undefined ? linear.zeros : integerZeros(scales, offsets, bits);
  const kept = { outFeatures, inFeatures, codes, scales, ...(groupOf && { groupOf }) };
  // The steps of super-blocks are nothing to other formats: their products are scales and offsets like any.
  if (zeros === undefined) return { ...kept, zeros: linear.zeros, offsets: offsets!, scheme: { bits, groupSize, scaleDtype, symmetric: false, offsets: "float" } };
  return { ...kept, zeros, scheme: { bits, groupSize, scaleDtype, symmetric: zeros.every((zero) => zero === 1 << (bits - 1)) } };
}

/** What of a linear a dtype cannot hold; undefined if it holds all of it. */
function notRepresentable({ scales, zeros, offsets, inFeatures, scheme }: QuantizedLinear, dtype: ScaleDtype, asOffsets: boolean): string | undefined {
  const groups = inFeatures / scheme.groupSize;
  const first = (values: Float32Array): number => roundAllToDtype(values, dtype).findIndex((value, i) => value !== values[i]);
  const place = (at: number): string => `of group ${String(at % groups)} of row ${String(Math.floor(at / groups))}`;
  const scale = first(scales);
  if (scale >= 0) return `the scale ${String(scales[scale])} ${place(scale)} is no ${dtype}, in which it would be kept`;
  if (!asOffsets) return undefined;
  const lowest = offsets ?? scales.map((value, i) => -value * zeros[i]);
  const offset = first(lowest);
  return offset < 0 ? undefined : `where the grid ${place(offset)} begins, ${String(lowest[offset])}, is no ${dtype}, in which it would be kept`;
}

/** Groups cut into smaller ones: what each has, its parts have. */
function cut(linear: QuantizedLinear, groupSize: number): QuantizedLinear {
  const { scheme, scales, zeros, offsets } = linear;
  const parts = scheme.groupSize / groupSize;
  const repeated = (from: Float32Array | Uint8Array, into: Float32Array | Uint8Array): void => from.forEach((value, i) => into.fill(value, i * parts, (i + 1) * parts));
  const made = {
    scales: new Float32Array(scales.length * parts), zeros: new Uint8Array(zeros.length * parts),
    ...(offsets && { offsets: new Float32Array(offsets.length * parts) }),
  };
  repeated(scales, made.scales);
  repeated(zeros, made.zeros);
  if (offsets !== undefined && made.offsets !== undefined) repeated(offsets, made.offsets);
  return { ...linear, ...made, scheme: { ...scheme, groupSize } };
}
