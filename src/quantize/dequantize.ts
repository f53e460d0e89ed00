import { NO_OFFSET } from "./grid.js";
import type { Matrix } from "./matrix.js";
import type { QuantizedLinear } from "./quantized-linear.js";

/** The weight that a quantized linear stands for [out, in]: scales · (codes − zeros), and its offsets, in float32. */
export function dequantize(linear: QuantizedLinear): Matrix {
  return { rows: linear.outFeatures, cols: linear.inFeatures, data: dequantizeRows(linear, Array.from({ length: linear.outFeatures }, (_, row) => row)) };
}

/** Some of its rows, in the order asked for [rows.length, in]. */
export function dequantizeRows(linear: QuantizedLinear, rows: ArrayLike<number>): Float32Array<ArrayBuffer> {
  const { inFeatures: cols, codes, scales, zeros, offsets, scheme } = linear;
  const groups = cols / scheme.groupSize;
  const groupOf = linear.groupOf ?? Int32Array.from({ length: cols }, (_, i) => Math.floor(i / scheme.groupSize));
  const data = new Float32Array(rows.length * cols);
  for (let at = 0; at < rows.length; at++) {
    const r = rows[at];
    for (let i = 0; i < cols; i++) {
      const k = r * groups + groupOf[i];
      data[at * cols + i] = scales[k] * (codes[r * cols + i] - zeros[k]) + (offsets?.[k] ?? NO_OFFSET);
    }
  }
  return data;
}
