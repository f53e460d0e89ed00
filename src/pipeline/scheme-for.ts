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
