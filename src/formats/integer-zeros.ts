import type { QuantScheme } from "../quantize/scheme.js";

/**
 * The zero points [groups], 0 … 2^bits − 1, with which scale · (code − zero) is scale · code + offset to the last bit; undefined where an
 * offset is no such multiple of its scale.
 */
export function integerZeros(scales: Float32Array, offsets: Float32Array, bits: number): Uint8Array<ArrayBuffer> | undefined {
  const zeros = new Uint8Array(scales.length);
  for (let i = 0; i < scales.length; i++) {
    const zero = scales[i] === 0 ? 0 : Math.round(-offsets[i] / scales[i]);
    // Products of a float32 and a small integer are exact in doubles.
    if (!(zero >= 0 && zero < 1 << bits) || zero * scales[i] !== -offsets[i]) return undefined;
    zeros[i] = zero;
  }
  return zeros;
}

/** Why a format that holds zero points as integers cannot hold groups of this scheme; undefined if it can. */
export function refusesOffsets(format: string, { offsets }: QuantScheme): string | undefined {
  return offsets === undefined ? undefined : `${format} holds zero points as integers, and its groups start at offsets that are no multiples of their scales`;
}
