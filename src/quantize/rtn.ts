import { MAGIC } from "./rounding.js";
import { emptyRows, type RoundedRows } from "./rounded.js";
import type { QuantScheme } from "./scheme.js";
import { GridChooser } from "./search.js";
import { chooseSteps, gridUnit, stepsAt, storeSteps } from "./super-block.js";

/**
 * Rounds every weight to the nearest value of its group's grid.
 * @param weight [rows, inFeatures], finite
 * @param importance of each channel's error in the scale search [inFeatures]; absent: all alike
 */
export function roundToNearest(
  weight: Float32Array, rows: number, inFeatures: number, scheme: QuantScheme, search: boolean, importance?: Float64Array,
): RoundedRows {
  const size = scheme.groupSize;
  const unit = gridUnit(scheme);
  const groups = inFeatures / size;
  const maxCode = 2 ** scheme.bits - 1;
  const out = emptyRows(rows, inFeatures, scheme);
  const { codes, scales, zeros, offsets, steps, dequantized } = out;
  if (steps) {
    for (let at = 0; at < weight.length; at += unit) storeSteps(steps, at / unit, chooseSteps(Float64Array.from(weight.subarray(at, at + unit)), scheme));
  }
  const chooser = new GridChooser(scheme, search);
  const group = new Float64Array(size);
  for (let k = 0; k < groups; k++) {
    if (importance) chooser.weigh(importance.subarray(k * size, (k + 1) * size));
    for (let r = 0; r < rows; r++) {
      const start = r * inFeatures + k * size;
      for (let j = 0; j < size; j++) group[j] = weight[start + j];
      if (steps) chooser.steps = stepsAt(steps, Math.floor(start / unit));
      chooser.choose(group);
      const { scale, zero, offset } = chooser;
      scales[r * groups + k] = scale;
      zeros[r * groups + k] = zero;
      if (offsets) offsets[r * groups + k] = offset;
      const low = 0 - zero; // −0 would show in the weights
      const high = maxCode - zero;
      for (let j = 0; j < size; j++) {
        let q = (group[j] - offset) / scale + MAGIC - MAGIC;
        q = q < low ? low : q > high ? high : q;
        codes[start + j] = q + zero;
        dequantized[start + j] = scale * q + offset;
      }
    }
  }
  return out;
}
