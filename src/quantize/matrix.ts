/** A row-major matrix of float32. A linear's weight is [out, in], as in PyTorch. */
export interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float32Array<ArrayBuffer>;
}
