import { MAGIC } from "./rounding.js";
import { emptyRows, type RoundedRows } from "./rounded.js";
import type { QuantScheme } from "./scheme.js";
import { GridChooser } from "./search.js";

/**
 * Rounds every weight to the nearest value of its group's grid.
 * @param weight [rows, inFeatures], finite
 * @param importance of each channel's error in the scale search [inFeatures]; absent: all alike
 */
export function roundToNearest(
  weight: Float32Array, rows: number, inFeatures: number, scheme: QuantScheme, search: boolean, importance?: Float64Array,
): RoundedRows {
  const size = scheme.groupSize;
  const groups = inFeatures / size;
  const maxCode = 2 ** scheme.bits - 1;
  const out = emptyRows(rows, inFeatures, size);
  const { codes, scales, zeros, dequantized } = out;
  const chooser = new GridChooser(scheme, search);
  const group = new Float64Array(size);
  const byGroup = Array.from({ length: groups }, (_, k) => (importance ? importance.slice(k * size, (k + 1) * size) : new Float64Array(size).fill(1)));
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < groups; k++) {
      const start = r * inFeatures + k * size;
      for (let j = 0; j < size; j++) group[j] = weight[start + j]!;
      chooser.choose(group, byGroup[k], size);
      const { scale, zero } = chooser;
      scales[r * groups + k] = scale;
      zeros[r * groups + k] = zero;
      const low = -zero;
      const high = maxCode - zero;
      for (let j = 0; j < size; j++) {
        let q = group[j] / scale + MAGIC - MAGIC;
        q = q < low ? low : q > high ? high : q;
        codes[start + j] = q + zero;
        dequantized[start + j] = scale * q;
      }
    }
  }
  return out;
}
