/** Bits of a code; which of them a format holds, it says itself. */
export const BITS = [2, 3, 4, 6, 8] as const;
export type Bits = (typeof BITS)[number];

/** Group sizes that checkpoints have, of whatever maker, beside one scale a row. */
export const CHECKPOINT_GROUP_SIZES = [16, 32, 64, 128, 256, 512, 1024] as const;

/** Float formats in which checkpoints keep scales. Scales are rounded to it before any code is computed. */
export type ScaleDtype = "F16" | "BF16" | "F32";

/**
 * In which order GPTQ visits the input channels.
 * - `natural`: as they lie.
 * - `group-aware`: by falling diag H inside each group, and the groups by their largest; groups stay natural, so no reader
 *   notices.
 * - `act`: by falling diag H over all (`desc_act`); groups follow the order, so readers need g_idx.
 */
export const ORDERS = ["natural", "group-aware", "act"] as const;
export type Order = (typeof ORDERS)[number];

/**
 * How offsets are kept where they are no zero points.
 * - `float`: one a group, a float of scaleDtype.
 * - `super-block`: GGUF's K-quants. Scales and offsets are whole multiples, of 6 bits, of two steps which all groups of a super-block share; the
 *   steps are floats of scaleDtype.
 */
export type OffsetKind = "float" | "super-block";

/** How one linear is quantized. */
export interface QuantScheme {
  readonly bits: Bits;
  /** Input channels that share a scale; always a positive divisor of in_features (in_features itself: one scale a row). */
  readonly groupSize: number;
  /** Symmetric: every zero point is 2^(bits−1). */
  readonly symmetric: boolean;
  readonly scaleDtype: ScaleDtype;
  /** Absent: zero points, which are codes. With offsets `symmetric` is false, and every zero point 0. */
  readonly offsets?: OffsetKind;
  /**
   * GGUF's Q6_K, where scales are whole multiples, −128 … 127, of a step that all 16 groups of a super-block share, a float of scaleDtype. Symmetric only.
   * Absent: with offsets of the kind `super-block` as these say, else floats of scaleDtype.
   */
  readonly scales?: "super-block";
  /**
   * Where several formats are to hold the same codes: the dtypes in which they keep scales, and those in which they keep scale · zero point
   * instead of zero points. All must hold them to the last bit.
   */
  readonly heldBy?: { readonly scales: readonly ScaleDtype[]; readonly products: readonly ScaleDtype[] };
}
