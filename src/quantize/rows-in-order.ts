import type { QuantizedLinear } from "./quantized-linear.js";
import { copyRows, emptyCodes } from "./rounded.js";

/** The same linear with its rows in another order: row `order[i]` becomes row i. */
export function rowsInOrder(linear: QuantizedLinear, order: Int32Array): QuantizedLinear {
  const { outFeatures, inFeatures, scheme } = linear;
  const moved = emptyCodes(outFeatures, inFeatures, scheme);
  order.forEach((from, to) => { copyRows(linear, from, 1, moved, to, inFeatures); });
  return { ...linear, ...moved };
}
