/**
 * How the inputs of a linear differ between the original model (X) and the quantized one (X̃): C = (X − X̃)ᵀX̃ / tokens [n, n],
 * channels as they lie, in shared memory.
 */
export interface CrossCorrelation {
  readonly matrix: Float32Array;
}
