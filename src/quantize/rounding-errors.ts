import type { Engine, LinearAlgebra } from "../engine/engine.js";
import { transferring } from "../engine/transferring.js";
import { outputEnergy } from "./energy.js";
import { splitRows } from "./linear.js";
import type { Matrix } from "./matrix.js";
import { rowKurtosis } from "./outliers.js";
import { roundToNearest } from "./rtn.js";
import type { QuantScheme } from "./scheme.js";
import { shared, sharedMean } from "./shared.js";

/** XᵀX / tokens of a linear's input, in shared memory. */
export interface InputHessian {
  /** [n, n] */
  readonly matrix: Float32Array;
  /** [n]: how much each channel counts in the search for scales: the diagonal, with a little of its mean, so that none counts nothing. */
  readonly importance: Float64Array;
}

/** What rounding to nearest would do to a linear. */
export interface RoundingErrors {
  /** tr(ΔHΔᵀ) for each scheme: the mean squared error of the output. */
  readonly errors: readonly number[];
  /** tr(WHWᵀ). */
  readonly energy: number;
  /** See `rowKurtosis`. */
  readonly kurtosis: Float64Array;
  /** The weight as the scheme `keep` would leave it [rows, cols]. */
  readonly rounded: Float32Array<ArrayBuffer>;
}

/** From what an accumulator gathered. */
export function inputHessian(sum: Float32Array, tokens: number): InputHessian {
  const n = Math.sqrt(sum.length);
  const matrix = sharedMean(sum, tokens);
  const importance = shared(Float64Array, n);
  let mean = 0;
  for (let j = 0; j < n; j++) mean += matrix[j * n + j] / n;
  for (let j = 0; j < n; j++) importance[j] = matrix[j * n + j] + 0.01 * (mean > 0 ? mean : 1);
  return { matrix, importance };
}

/**
 * Rounds a linear by each scheme, scales searched, and measures what is lost; its rows are spread over the engine's threads.
 * @param keep index of the scheme whose result is handed back
 */
export async function roundingErrors(
  engine: Pick<Engine, "call" | "parallelism">, weight: Matrix, schemes: readonly QuantScheme[], hessian: InputHessian, keep: number,
): Promise<RoundingErrors> {
  const { rows, cols } = weight;
  const parts = await Promise.all(
    splitRows(rows, cols, engine.parallelism).map(([from, to]) => {
      const data = weight.data.slice(from * cols, to * cols);
      const slab: Matrix = { rows: to - from, cols, data };
      return engine.call<RoundingErrors>(new URL("./rounding-errors.js", import.meta.url).href, "roundSlab", [slab, schemes, hessian, keep], [data.buffer]);
    }),
  );
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const rounded = new Float32Array(rows * cols);
  const kurtosis = new Float64Array(rows);
  let row = 0;
  for (const part of parts) {
    rounded.set(part.rounded, row * cols);
    kurtosis.set(part.kurtosis, row);
    row += part.kurtosis.length;
  }
  return { errors: schemes.map((_, i) => sum(parts.map(({ errors }) => errors[i]))), energy: sum(parts.map(({ energy }) => energy)), kurtosis, rounded };
}

/** Some rows of it. Made to be run by `Engine.call`. */
export async function roundSlab(la: LinearAlgebra, { rows, cols, data }: Matrix, schemes: readonly QuantScheme[], hessian: InputHessian, keep: number) {
  const errors: number[] = [];
  let rounded = data;
  for (const [i, scheme] of schemes.entries()) {
    const { dequantized } = roundToNearest(data, rows, cols, scheme, true, hessian.importance);
    if (i === keep) rounded = dequantized;
    // Rounding of the sum may leave less than nothing.
    errors.push(Math.max(0, await outputEnergy(la, data.map((w, at) => w - dequantized[at]), rows, cols, hessian)));
  }
  const energy = await outputEnergy(la, data, rows, cols, hessian);
  const result: RoundingErrors = { errors, energy, kurtosis: rowKurtosis(data, rows, cols), rounded };
  return transferring(result, [rounded.buffer]);
}
