import type { Engine } from "../engine/engine.js";
import { InputError } from "../errors.js";
import { heldScale, largestScale, storedOffset, storedScale } from "./grid.js";
import type { HessianOptions, HessianProblem, PreparedHessian } from "./hessian.js";
import { findNonFinite, type Matrix } from "./matrix.js";
import { groupOfChannel } from "./order.js";
import type { QuantizedLinear } from "./quantized-linear.js";
import { codesOf, copyRows, emptyRows, type RoundedRows } from "./rounded.js";
import type { QuantScheme } from "./scheme.js";
import type { Retargeting } from "./retarget.js";
import { gridUnit, stepsAt, type Steps } from "./super-block.js";
import type { Method, Recipe, Slab, SlabArgs } from "./slab.js";

/** Fewer rows than this are not worth another thread. */
const LEAST_ROWS = 64;
/** Weights that a thread works on at a time, 64 MB of them in float32: it needs several times as much, and WebAssembly holds no more than 4 GB. */
const MOST_WEIGHTS = 1 << 24;

type Threads = Pick<Engine, "call" | "parallelism">;

export interface LinearOptions {
  /** As errors name it. */
  readonly name: string;
  /** Where the weight is a part of the linear: which of its rows comes first, for errors. */
  readonly firstRow?: number;
  readonly scheme: QuantScheme;
  readonly method: Method;
  /** `gptq` needs it. Its group size must be the scheme's. */
  readonly hessian?: PreparedHessian;
  /** Only with a Hessian: what the weight is retargeted by. */
  readonly retarget?: Retargeting;
  readonly recipe: Recipe;
  /** s [in]: the Hessian is that of x / s, and what is quantized is W·diag(s). */
  readonly inputScales?: Float64Array;
}

export interface LinearResult {
  readonly linear: QuantizedLinear;
  /** What a reader will make of it, for the stages that follow: with input scales, that over s. */
  readonly dequantized: Matrix;
  readonly stats: LinearStats;
}

interface LinearStats {
  /** tr(ΔHΔᵀ) / tr(WHWᵀ), H without damping: the share of the output's energy that is error. Without a Hessian ‖Δ‖² / ‖W‖². 0 if W·H is 0. */
  readonly relativeError: number;
  /** tr(ΔHΔᵀ), H a token's mean: the squared error of one token's output. */
  readonly error: number;
  /** tr(WHWᵀ), likewise. */
  readonly energy: number;
  /** Without their signs. */
  readonly scales: { readonly min: number; readonly median: number; readonly max: number };
  /** Scales that stand at the largest value of their dtype: these groups are clipped, and that is worth a warning. */
  readonly clippedScales: number;
  /** Of all threads together. */
  readonly seconds: number;
}

/** `prepareHessian` in one of the engine's threads; `sum` is moved there. */
export function prepareHessianIn(
  engine: Pick<Engine, "call">, sum: Float32Array<ArrayBuffer>, tokens: number, options: HessianOptions,
): Promise<PreparedHessian | HessianProblem> {
  return engine.call(new URL("./hessian.js", import.meta.url).href, "prepareHessian", [sum, tokens, options], [sum.buffer]);
}

/**
 * Quantizes a linear's weight [out, in], its rows spread over the engine's threads. The weight stays as it is.
 * Throws `InputError` for a weight that holds NaN or infinity.
 */
export async function quantizeLinear(engine: Threads, weight: Matrix, options: LinearOptions): Promise<LinearResult> {
  const { name, firstRow = 0, scheme, method, hessian, retarget, recipe, inputScales } = options;
  const { rows, cols } = weight;
  const bad = findNonFinite(weight.data);
  if (bad >= 0) throw new InputError(`${name}: the weight at row ${firstRow + Math.floor(bad / cols)}, column ${bad % cols} is ${weight.data[bad]}`);

  const slabs = await Promise.all(
    splitRows(rows, cols, engine.parallelism).map(([from, to]) => {
      const part = weight.data.slice(from * cols, to * cols);
      const args: SlabArgs = {
        method, weight: part, rows: to - from, inFeatures: cols, scheme, recipe, ...(hessian && { hessian }), ...(retarget && { retarget }), ...(inputScales && { inputScales }),
      };
      return engine.call<Slab>(new URL("./slab.js", import.meta.url).href, "quantizeSlab", [args], [part.buffer]);
    }),
  );
  const rounded = joined(slabs, rows, cols, scheme);
  const error = slabs.reduce((sum, slab) => sum + slab.error, 0);
  const energy = slabs.reduce((sum, slab) => sum + slab.energy, 0);
  // Weights that GPTQ has driven out of range would be written without a word otherwise.
  if (!Number.isFinite(error)) throw new InputError(`${name}: its error is ${error}: the weights or the activations are too large for float32`);
  const groupOf = method === "gptq" && hessian?.order === "act" ? groupOfChannel(hessian.permutation, scheme.groupSize) : undefined;
  return {
    linear: { outFeatures: rows, inFeatures: cols, scheme, ...codesOf(rounded), ...(groupOf && { groupOf }) },
    dequantized: { rows, cols, data: rounded.dequantized },
    stats: {
      relativeError: energy > 0 ? Math.max(0, error) / energy : 0,
      error: Math.max(0, error),
      energy,
      ...scaleStats(rounded.scales, largestScale(scheme.scaleDtype)),
      seconds: slabs.reduce((sum, slab) => sum + slab.seconds, 0),
    },
  };
}

/** Divides the output of a quantized linear by s [out], row by row: in its scales and offsets, or in their steps, which round to their dtype again. */
export function dividedRows(linear: QuantizedLinear, s: Float64Array): QuantizedLinear {
  const { outFeatures, scales, offsets, steps, scheme } = linear;
  const { scaleDtype } = scheme;
  const divided = (values: Float32Array<ArrayBuffer>, stored: typeof storedScale): Float32Array<ArrayBuffer> => {
    const width = values.length / outFeatures;
    return values.map((value, i) => stored(value / s[Math.floor(i / width)], scaleDtype));
  };
  if (offsets === undefined) return { ...linear, scales: divided(scales, storedScale).map((scale, k) => heldScale(scale, linear.zeros[k], scheme)) };
  if (steps === undefined) return { ...linear, scales: divided(scales, storedScale), offsets: divided(offsets, storedOffset) };
  const shorter = divided(steps, storedScale);
  const stepOf = (of: Float32Array, group: number): Steps => stepsAt(of, Math.floor((group * scheme.groupSize) / gridUnit(scheme)));
  return {
    ...linear,
    steps: shorter,
    scales: scales.map((scale, i) => stepOf(shorter, i).scale * Math.round(scale / stepOf(steps, i).scale)),
    offsets: offsets.map((offset, i) => stepOf(shorter, i).offset * Math.round(offset / stepOf(steps, i).offset)),
  };
}

/** Row ranges of a matrix [rows, cols] for `threads` threads, as even as whole rows allow; several for each where they would be too much for a thread's memory. */
export function splitRows(rows: number, cols: number, threads: number): [number, number][] {
  const turns = Math.ceil((rows * cols) / threads / MOST_WEIGHTS);
  const count = Math.max(1, Math.min(threads * turns, Math.floor(rows / LEAST_ROWS)));
  return Array.from({ length: count }, (_, i) => [Math.floor((i * rows) / count), Math.floor(((i + 1) * rows) / count)]);
}

function joined(slabs: readonly Slab[], rows: number, cols: number, scheme: QuantScheme): RoundedRows {
  const [only] = slabs;
  if (slabs.length === 1 && only !== undefined) return only;
  const all = emptyRows(rows, cols, scheme);
  let at = 0;
  for (const slab of slabs) {
    const count = slab.codes.length / cols;
    copyRows(slab, 0, count, all, at, cols);
    at += count;
  }
  return all;
}

/** What there is to say of the scales of a linear, whose dtype holds no larger one than `largest`. */
export function scaleStats(scales: Float32Array, largest: number): Pick<LinearStats, "scales" | "clippedScales"> {
  const sorted = scales.map(Math.abs).sort();
  return {
    scales: { min: sorted[0], median: sorted[sorted.length >> 1], max: sorted[sorted.length - 1] },
    clippedScales: sorted.length - sorted.findLastIndex((s) => s < largest) - 1,
  };
}
