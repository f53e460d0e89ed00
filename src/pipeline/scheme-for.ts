import type { Format } from "../formats/format.js";
import type { Bits, QuantScheme, ScaleDtype } from "../quantize/scheme.js";

/**
 * How a linear is to be quantized so that the format can keep it.
 * @param groupSize −1: one scale a row
 * @param modelDtype of its weight
 */
export function schemeFor(
  format: Format, { inFeatures }: { readonly inFeatures: number }, bits: Bits, groupSize: number, symmetric: boolean, modelDtype: ScaleDtype,
): QuantScheme {
  return {
    bits,
    groupSize: groupSize === -1 ? inFeatures : groupSize,
    symmetric,
    scaleDtype: format.scaleDtype(modelDtype),
    ...(format.offsets && !symmetric && { offsets: format.offsets }),
  };
}

/** One scheme whose codes every format of a run holds to the last bit, from the schemes that each would have for a linear by itself. */
export function commonScheme([first, ...others]: readonly [QuantScheme, ...QuantScheme[]]): QuantScheme {
  if (others.every(({ scaleDtype, offsets }) => scaleDtype === first.scaleDtype && offsets === first.offsets)) return first;
  const all = [first, ...others];
  const dtypesOf = (schemes: readonly QuantScheme[]): ScaleDtype[] => [...new Set(schemes.map(({ scaleDtype }) => scaleDtype))];
  const { bits, groupSize, symmetric, scaleDtype } = first;
  return { bits, groupSize, symmetric, scaleDtype, heldBy: { scales: dtypesOf(all), products: dtypesOf(all.filter(({ offsets }) => offsets !== undefined)) } };
}
