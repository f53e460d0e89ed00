/** What a method makes of rows of a weight matrix; channels and groups as `QuantizedLinear` has them. */
export interface RoundedRows {
  /** [rows, in] */
  readonly codes: Uint8Array<ArrayBuffer>;
  /** [rows, groups] */
  readonly scales: Float32Array<ArrayBuffer>;
  /** [rows, groups] */
  readonly zeros: Uint8Array<ArrayBuffer>;
  /** [rows, in]: exactly scales · (codes − zeros), in float32. */
  readonly dequantized: Float32Array<ArrayBuffer>;
}

export function emptyRows(rows: number, inFeatures: number, groupSize: number): RoundedRows {
  const groups = inFeatures / groupSize;
  return {
    codes: new Uint8Array(rows * inFeatures),
    scales: new Float32Array(rows * groups),
    zeros: new Uint8Array(rows * groups),
    dequantized: new Float32Array(rows * inFeatures),
  };
}
