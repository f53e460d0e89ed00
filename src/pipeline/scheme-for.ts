import type { Format } from "../formats/format.js";
import type { Bits, QuantScheme, ScaleDtype } from "../quantize/scheme.js";
import { gridUnit } from "../quantize/super-block.js";

/** K-quants of other bits have other grids. */
const K_QUANT_BITS = 4;

/** Bits of codes that formats with K-quants hold as Q6_K alone, always in groups of 16. */
const SIGNED_BITS = 6;
const SIGNED_GROUP = 16;

/**
 * How a linear is to be quantized so that the format can keep it. With `kQuant`, one of 4 bits lies in super-blocks where its channels fill whole ones, and
 * has float offsets where they do not; 6 bits are Q6_K in formats with K-quants.
 * @param groupSize −1: one scale a row
 * @param modelDtype of its weight
 */
export function schemeFor(
  format: Format, { inFeatures }: { readonly inFeatures: number }, bits: Bits, groupSize: number,
  { symmetric, kQuant = false }: { readonly symmetric: boolean; readonly kQuant?: boolean }, modelDtype: ScaleDtype,
): QuantScheme {
  const scheme = { bits, groupSize: groupSize === -1 ? inFeatures : groupSize, scaleDtype: format.scaleDtype(modelDtype) };
  if (format.kQuants && bits === SIGNED_BITS) return { ...scheme, groupSize: SIGNED_GROUP, symmetric: true, scales: "super-block" };
  if (kQuant && bits === K_QUANT_BITS) {
    const whole = inFeatures % gridUnit({ groupSize: scheme.groupSize, offsets: "super-block" }) === 0;
    return { ...scheme, symmetric: false, offsets: whole ? "super-block" : "float" };
  }
  return { ...scheme, symmetric, ...(format.offsets && !symmetric && { offsets: format.offsets }) };
}

/** One scheme whose codes every format of a run holds to the last bit, from the schemes that each would have for a linear by itself. */
export function commonScheme([first, ...others]: readonly [QuantScheme, ...QuantScheme[]]): QuantScheme {
  if (others.every(({ scaleDtype, offsets, scales }) => scaleDtype === first.scaleDtype && offsets === first.offsets && scales === first.scales)) return first;
  const all = [first, ...others];
  const dtypesOf = (schemes: readonly QuantScheme[]): ScaleDtype[] => [...new Set(schemes.map(({ scaleDtype }) => scaleDtype))];
  const { bits, groupSize, symmetric, scaleDtype } = first;
  return { bits, groupSize, symmetric, scaleDtype, heldBy: { scales: dtypesOf(all), products: dtypesOf(all.filter(({ offsets }) => offsets !== undefined)) } };
}
