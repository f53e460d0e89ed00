import type { Matrix } from "./matrix.js";
import type { QuantizedLinear } from "./quantized-linear.js";

/** The weight that a quantized linear stands for [out, in]: scales · (codes − zeros), in float32. */
export function dequantize(linear: QuantizedLinear): Matrix {
  const { outFeatures: rows, inFeatures: cols, codes, scales, zeros, scheme } = linear;
  const groups = cols / scheme.groupSize;
  const groupOf = linear.groupOf ?? Int32Array.from({ length: cols }, (_, i) => Math.floor(i / scheme.groupSize));
  const data = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < cols; i++) {
      const k = r * groups + groupOf[i];
      data[r * cols + i] = scales[k] * (codes[r * cols + i] - zeros[k]);
    }
  }
  return { rows, cols, data };
}
