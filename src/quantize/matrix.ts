/** A row-major matrix of float32. A linear's weight is [out, in], as in PyTorch. */
export interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float32Array<ArrayBuffer>;
}

/** Where the first NaN or infinity is, or −1. */
export function findNonFinite(values: Float32Array): number {
  // 0 · x is 0 unless x is NaN or infinite: one sum answers for all of them, without a branch each.
  let zero = 0;
  for (let i = 0; i < values.length; i++) zero += 0 * values[i];
  return zero === 0 ? -1 : values.findIndex((x) => !Number.isFinite(x));
}
