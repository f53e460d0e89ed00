import type { QuantScheme } from "./scheme.js";

/**
 * A linear on its grid, as methods make it and formats pack it:
 * W[o,i] ≈ scales[o,k] · (codes[o,i] − zeros[o,k]) with k = groupOf ? groupOf[i] : floor(i / groupSize);
 * with offsets, + offsets[o,k]. In float32 that is rounded once: products of scales in F16 or BF16 with codes are exact.
 */
export interface QuantizedLinear {
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly scheme: QuantScheme;
  /** [out, in], 0 … 2^bits − 1. */
  readonly codes: Uint8Array<ArrayBuffer>;
  /** [out, in / groupSize], already rounded to scheme.scaleDtype. */
  readonly scales: Float32Array<ArrayBuffer>;
  /** [out, in / groupSize], 0 … 2^bits − 1. */
  readonly zeros: Uint8Array<ArrayBuffer>;
  /** [out, in / groupSize], where the scheme has offsets: at most 0, as it stores them. */
  readonly offsets?: Float32Array<ArrayBuffer>;
  /** [out, super-blocks, 2], where offsets or scales are of the kind `super-block`: the step of its scales, and that of its offsets, 0 where it has none. */
  readonly steps?: Float32Array<ArrayBuffer>;
  /** [in], only when the groups do not lie side by side (`act` order). */
  readonly groupOf?: Int32Array<ArrayBuffer>;
}
