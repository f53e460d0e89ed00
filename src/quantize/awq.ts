import type { Engine, LinearAlgebra } from "../engine/engine.js";
import { roundToDtype, type FloatDtype } from "../safetensors/floats.js";
import { outputEnergy } from "./energy.js";
import { gptq } from "./gptq.js";
import type { HessianOptions, HessianProblem, PreparedHessian } from "./hessian.js";
import { prepareHessianIn } from "./linear.js";
import { roundToNearest } from "./rtn.js";
import type { QuantScheme } from "./scheme.js";
import { shared } from "./shared.js";

/** Exponents r that are tried, with the weights' share in the scales and without. On SmolLM2 and the demo model no others were ever taken. */
const TRIED = [
  { ofWeight: 1, exponents: [0.2, 0.4, 0.6, 0.8] },
  { ofWeight: 0, exponents: [0.2, 0.4] },
] as const;
/** Scales are taken only if they leave less than this share of the error that is left without them, by rounding and by GPTQ. */
const WORTHWHILE = 0.95;

/** What computes the inputs, and into which 1/s goes. Absent fields: whatever s, its values can hold 1/s of it. */
export interface Producer {
  /** Of a norm: its stored weights [n], what is added to them (1 in Gemma), and the dtype in which they are stored. */
  readonly norm?: { readonly weight: Float32Array; readonly plus: number; readonly dtype: FloatDtype };
  /** [n]: channels with one number here come from one row of the producer, and have one scale. */
  readonly rowOf?: Int32Array;
}

export interface ScaledHessian {
  readonly prepared: PreparedHessian | HessianProblem;
  /** s [n]: the Hessian is that of x / s, and weights are to be W·diag(s). Absent: 1. */
  readonly scales?: Float64Array<ArrayBuffer>;
  /** With scales: the Hessian of x. */
  readonly unscaled?: PreparedHessian;
}

/**
 * Activation-aware scales (AWQ, Lin et al. 2023, arXiv 2306.00978) for the linears of one stage: s = x̄^r / w̄^(1−r) or x̄^r, x̄ the root of
 * diag H and w̄ a channel's mean |w| beside the largest of its group. r is chosen by what rounding leaves of some rows in the metric of H + λI; if that is
 * less than without scales, these are held against none by GPTQ too, and must leave less. All of these are tried side by side in the engine's threads.
 * @param sum XᵀX over all tokens [n, n]; it is moved
 * @param weights of the linears that share the input, each [.., n]
 */
export async function prepareScaled(
  engine: Pick<Engine, "call">, sum: Float32Array<ArrayBuffer>, tokens: number, options: HessianOptions, weights: readonly Float32Array[], scheme: QuantScheme, producer: Producer,
): Promise<ScaledHessian> {
  const plain = await prepareHessianIn(engine, sum, tokens, options);
  if ("problem" in plain) return { prepared: plain };
  const samples = sampleRows(weights, plain.n);
  const here = <R>(exportName: string, ...more: readonly unknown[]): Promise<R> => engine.call<R>(import.meta.url, exportName, [plain, samples, scheme, ...more]);

  const tried = Array.from(candidates(plain, samples, samples.length / plain.n, scheme.groupSize, producer.rowOf), (s) => storable(s, producer.norm));
  const ones = new Float64Array(plain.n).fill(1);
  const [asTheyAre, ...errors] = await Promise.all([ones, ...tried].map((s) => here<number>("roundingError", s)));
  const least = errors.reduce((a, b) => (b < a ? b : a), Infinity);
  if (!(least < WORTHWHILE * asTheyAre)) return { prepared: plain };
  const best = tried[errors.indexOf(least)];

  const [without, { scaled, loss }] = await Promise.all([here<number>("lossOf"), here<Scaled>("lossOfScaled", best)]);
  return loss < WORTHWHILE * without ? { prepared: scaled, scales: best, unscaled: plain } : { prepared: plain };
}

/** What rounding W·diag(s) leaves of W, in the metric of H + λI, for some rows of it [.., n]. Made to be run by `Engine.call`, as those below. */
export async function roundingError(la: LinearAlgebra, hessian: PreparedHessian, samples: Float32Array, scheme: QuantScheme, s: Float64Array): Promise<number> {
  const { n, matrix, permutation, diagonal } = hessian;
  const rows = samples.length / n;
  const { dequantized } = roundToNearest(scaledColumns(samples, s), rows, n, scheme, true, diagonal.map((h, j) => h / s[j] ** 2));
  // Δ·diag(1/s) in the metric of H is Δ in that of the scaled H.
  const difference = samples.map((w, i) => w - dequantized[i] / s[i % n]);
  // What damping and shrinkage add to the diagonal.
  const added = diagonal.slice();
  permutation.forEach((channel, p) => (added[channel] -= matrix[p * n + p]));
  return difference.reduce((sum, d, i) => sum + added[i % n] * d * d, await outputEnergy(la, difference, rows, n, hessian));
}

/** What GPTQ leaves of some rows [.., n]. */
export async function lossOf(la: LinearAlgebra, hessian: PreparedHessian, samples: Float32Array, scheme: QuantScheme): Promise<number> {
  // A few rows are not worth bringing a Hessian to a device.
  const here: LinearAlgebra = { gemm: (product) => la.gemm(product) };
  return (await gptq(here, samples, samples.length / hessian.n, scheme, true, hessian)).loss;
}

interface Scaled {
  readonly scaled: PreparedHessian;
  readonly loss: number;
}

/** The Hessian of x / s, and what GPTQ leaves of W·diag(s) with it. */
export async function lossOfScaled(la: LinearAlgebra, plain: PreparedHessian, samples: Float32Array, scheme: QuantScheme, s: Float64Array): Promise<Scaled> {
  const scaled = scaledHessian(plain, s);
  return { scaled, loss: await lossOf(la, scaled, scaledColumns(samples, s), scheme) };
}

/**
 * The Hessian of x / s with the same damping: S⁻¹(H + λI)S⁻¹, whose inverse's factor is R·S. Damping it anew by its own mean diagonal would
 * be too little for the channels that were quiet, and on SmolLM2 costs more than the scales bring. The order of channels stays.
 */
function scaledHessian(plain: PreparedHessian, s: Float64Array): PreparedHessian {
  const { n, permutation } = plain;
  const matrix = shared(Float32Array, n * n);
  const factor = shared(Float32Array, n * n);
  const diagonal = shared(Float64Array, n);
  const ordered = Float64Array.from(permutation, (channel) => s[channel]);
  for (let p = 0; p < n; p++) {
    for (let q = 0, i = p * n; q < n; q++, i++) {
      matrix[i] = plain.matrix[i] / (ordered[p] * ordered[q]);
      factor[i] = plain.factor[i] * ordered[q];
    }
    diagonal[p] = plain.diagonal[p] / s[p] ** 2;
  }
  return { ...plain, id: crypto.randomUUID(), matrix, factor, diagonal };
}

/** Scales to choose from, of geometric mean about 1; 1 for dead inputs. */
function* candidates({ n, diagonal, dead }: PreparedHessian, samples: Float32Array, rows: number, groupSize: number, rowOf: Int32Array | undefined) {
  const activation = oneARow(diagonal.map(Math.sqrt), rowOf);
  const weight = oneARow(relativeMagnitudes(samples, rows, n, groupSize), rowOf);
  for (const { ofWeight, exponents } of TRIED) {
    for (const r of exponents) {
      const logs = Float64Array.from({ length: n }, (_, j) => r * Math.log(activation[j]) - ofWeight * (1 - r) * Math.log(Math.max(weight[j], 1e-6)));
      const mean = logs.reduce((a, b) => a + b, 0) / n;
      const s = logs.map((log) => Math.exp(log - mean));
      for (const j of dead) if (rowOf === undefined) s[j] = 1;
      yield s;
    }
  }
}

/** Mean over all rows of |w| / max of its group |w|, for each channel. */
function relativeMagnitudes(samples: Float32Array, rows: number, n: number, groupSize: number): Float64Array {
  const means = new Float64Array(n);
  for (let r = 0; r < rows; r++) {
    for (let start = 0; start < n; start += groupSize) {
      let largest = 0;
      for (let j = start; j < start + groupSize; j++) largest = Math.max(largest, Math.abs(samples[r * n + j]));
      if (largest === 0) continue;
      for (let j = start; j < start + groupSize; j++) means[j] += Math.abs(samples[r * n + j]) / largest / rows;
    }
  }
  return means;
}

/** The root mean square over all channels of one row of the producer, for each of them. */
function oneARow(values: Float64Array, rowOf: Int32Array | undefined): Float64Array {
  if (rowOf === undefined) return values;
  const squares = new Map<number, { sum: number; count: number }>();
  values.forEach((value, j) => {
    const { sum, count } = squares.get(rowOf[j]) ?? { sum: 0, count: 0 };
    squares.set(rowOf[j], { sum: sum + value * value, count: count + 1 });
  });
  return values.map((_, j) => {
    const { sum, count } = squares.get(rowOf[j])!;
    return Math.sqrt(sum / count);
  });
}

/** The scales nearest to s whose inverse a norm can hold to the last bit; 1 where it holds none. */
function storable(s: Float64Array<ArrayBuffer>, norm: Producer["norm"]): Float64Array<ArrayBuffer> {
  if (norm === undefined) return s;
  const folded = foldedNorm(norm, s);
  return s.map((_, j) => {
    const exact = (norm.weight[j] + norm.plus) / (folded[j] + norm.plus);
    return exact > 0 && Number.isFinite(exact) ? exact : 1;
  });
}

/** What a norm stores instead of its weights, once its output is to be divided by s [n]. */
export function foldedNorm({ weight, plus, dtype }: NonNullable<Producer["norm"]>, s: Float64Array): Float32Array<ArrayBuffer> {
  return Float32Array.from(weight, (w, j) => (s[j] === 1 ? w : roundToDtype((w + plus) / s[j] - plus, dtype)));
}

/** Rows that stand for all of a stage's linears. */
export const SAMPLE_ROWS = 32;

/** The golden ratio's fraction: its multiples fall everywhere between 0 and 1, evenly however many there are. */
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/**
 * Some rows of several weights [rows, n]: of as many equal shares of all of them one each, not always the same one. At one distance they would stand at the same
 * few places of every attention head, and speak for these alone.
 */
export function sampleRows(weights: readonly Float32Array[], n: number): Float32Array<ArrayBuffer> {
  const all = weights.flatMap((weight) => Array.from({ length: weight.length / n }, (_, row) => weight.subarray(row * n, (row + 1) * n)));
  const count = Math.min(SAMPLE_ROWS, all.length);
  const samples = new Float32Array(count * n);
  for (let i = 0; i < count; i++) samples.set(all[Math.floor(((i + ((i * GOLDEN) % 1)) * all.length) / count)], i * n);
  return samples;
}

/** W·diag(s). */
export function scaledColumns(weight: Float32Array, s: Float64Array): Float32Array<ArrayBuffer> {
  const n = s.length;
  const scaled = new Float32Array(weight.length);
  for (let start = 0; start < weight.length; start += n) for (let j = 0; j < n; j++) scaled[start + j] = weight[start + j] * s[j];
  return scaled;
}
