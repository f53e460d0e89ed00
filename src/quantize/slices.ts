import { largestScale } from "./grid.js";
import { copyRows, emptyCodes } from "./rounded.js";
import { quantizeLinear, scaleStats, type LinearOptions, type LinearResult } from "./linear.js";

/** Weights in a slice: 64 MB of them in float32, and a few times as much while they are quantized. */
const SLICE_WEIGHTS = 1 << 24;

/**
 * `quantizeLinear` for a weight [rows, cols] of which memory should not hold all values at once, as lm_head's: a slice of rows after the
 * other is read and quantized, and only codes and scales are kept. Rows do not depend on each other, so nothing is lost by it.
 * @param readRows the values of rows [from, to)
 * @throws `InputError` for a weight that holds NaN or infinity
 */
export async function quantizeInSlices(
  engine: Parameters<typeof quantizeLinear>[0],
  { rows, cols }: { readonly rows: number; readonly cols: number },
  readRows: (from: number, to: number) => Promise<Float32Array<ArrayBuffer>>,
  options: LinearOptions,
  sliceWeights = SLICE_WEIGHTS,
): Promise<Omit<LinearResult, "dequantized">> {
  const { scheme } = options;
  const coded = emptyCodes(rows, cols, scheme);
  const step = Math.max(1, Math.floor(sliceWeights / cols));
  let groupOf: Int32Array<ArrayBuffer> | undefined;
  let error = 0;
  let energy = 0;
  let seconds = 0;
  for (let from = 0; from < rows; from += step) {
    const to = Math.min(rows, from + step);
    const data = await readRows(from, to);
    const { linear, stats } = await quantizeLinear(engine, { rows: to - from, cols, data }, { ...options, firstRow: from });
    copyRows(linear, 0, to - from, coded, from, cols);
    groupOf = linear.groupOf;
    error += stats.error;
    energy += stats.energy;
    seconds += stats.seconds;
  }
  return {
    linear: { outFeatures: rows, inFeatures: cols, scheme, ...coded, ...(groupOf && { groupOf }) },
    stats: { relativeError: energy > 0 ? error / energy : 0, error, energy, ...scaleStats(coded.scales, largestScale(scheme.scaleDtype)), seconds },
  };
}
