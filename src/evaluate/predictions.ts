import type { LinearAlgebra } from "../engine/engine.js";
import { transferring } from "../engine/transferring.js";

/**
 * What a vocabulary that is seen slice by slice has shown so far of the predictions at some positions, all arrays [positions]. A
 * logit a of the model and r of the reference; sums are relative to the largest logit so far, so that no exponential overflows.
 */
export interface Predictions {
  /** The token that follows each position; −1: none is known, and the position does not count. */
  readonly targets: Int32Array;
  readonly model: Distribution;
  readonly reference?: Distribution;
  /** Σ exp(r − max r) · (r − a): from it the KL divergence of the model from the reference. */
  readonly cross: Float64Array;
}

/** One model's softmax, so far. */
export interface Distribution {
  readonly max: Float64Array;
  /** Σ exp(logit − max). */
  readonly sum: Float64Array;
  readonly argmax: Int32Array;
  /** Logit of the target. */
  readonly target: Float64Array;
}

/** Logits of one slice of the vocabulary, [positions, width], the first of token `first`. */
export interface LogitSlice {
  readonly first: number;
  readonly width: number;
  readonly model: Float32Array<ArrayBuffer>;
  readonly reference?: Float32Array<ArrayBuffer>;
}

export function noPredictions(targets: Int32Array, withReference: boolean): Predictions {
  const none = (): Distribution => ({
    max: new Float64Array(targets.length).fill(-Infinity),
    sum: new Float64Array(targets.length),
    argmax: new Int32Array(targets.length),
    target: new Float64Array(targets.length),
  });
  return { targets, model: none(), ...(withReference && { reference: none() }), cross: new Float64Array(targets.length) };
}

/** Adds a slice to what is known. Made for `Engine.call`: it works on copies and gives the logits' memory back. */
export function addSlice(_: LinearAlgebra, predictions: Predictions, slice: LogitSlice) {
  for (const [position, target] of predictions.targets.entries()) if (target >= 0) addPosition(predictions, slice, position, target);
  return Promise.resolve(
    transferring({ predictions, slice }, [slice.model.buffer, ...(slice.reference ? [slice.reference.buffer] : [])]),
  );
}

function addPosition({ model, reference, cross }: Predictions, slice: LogitSlice, position: number, target: number): void {
  const { first, width } = slice;
  const from = position * width;
  if (reference !== undefined && slice.reference !== undefined) {
    const before = reference.max[position];
    addRow(reference, slice.reference, from, width, first, position, target);
    const max = reference.max[position];
    // What was summed relative to the old maximum, relative to the new one.
    let sum = cross[position] * Math.exp(before - max);
    if (!Number.isFinite(before)) sum = 0;
    const { model: a, reference: r } = slice;
    for (let i = from; i < from + width; i += 1) sum += Math.exp(r[i] - max) * (r[i] - a[i]);
    cross[position] = sum;
  }
  addRow(model, slice.model, from, width, first, position, target);
}

function addRow(known: Distribution, logits: Float32Array, from: number, width: number, first: number, position: number, target: number): void {
  let max = known.max[position];
  const before = max;
  for (let i = from; i < from + width; i += 1) {
    if (logits[i] > max) {
      max = logits[i]!;
      known.argmax[position] = first + i - from;
    }
  }
  let sum = Number.isFinite(before) ? known.sum[position] * Math.exp(before - max) : 0;
  for (let i = from; i < from + width; i += 1) sum += Math.exp(logits[i] - max);
  known.max[position] = max;
  known.sum[position] = sum;
  if (target >= first && target < first + width) known.target[position] = logits[from + target - first]!;
}

/** Means over all positions that count, in nats. */
export interface Measures {
  /** Predicted tokens. */
  readonly tokens: number;
  readonly perplexity: number;
  /** Its standard error, tokens taken as independent. */
  readonly perplexityError: number;
}

/** How far a model's predictions are from its reference's. */
export interface Divergence {
  /** Mean of Σ p·log(p/q), p the reference's and q the model's distribution. */
  readonly klDivergence: number;
  readonly klDivergenceError: number;
  /** Share of positions at which both find the same token the likeliest. */
  readonly top1Agreement: number;
}

export function perplexityOf(all: readonly Predictions[], which: "model" | "reference"): Measures {
  const losses: number[] = [];
  for (const predictions of all) {
    const known = predictions[which]!;
    predictions.targets.forEach((target, i) => {
      if (target >= 0) losses.push(known.max[i] + Math.log(known.sum[i]) - known.target[i]);
    });
  }
  const { mean, error } = meanOf(losses);
  const perplexity = Math.exp(mean);
  return { tokens: losses.length, perplexity, perplexityError: perplexity * error };
}

export function divergenceOf(all: readonly Predictions[]): Divergence {
  const divergences: number[] = [];
  let agreed = 0;
  for (const { targets, model, reference, cross } of all) {
    if (reference === undefined) throw new Error("there is no reference to diverge from");
    targets.forEach((target, i) => {
      if (target < 0) return;
      const partitions = model.max[i] + Math.log(model.sum[i]) - reference.max[i] - Math.log(reference.sum[i]);
      divergences.push(cross[i] / reference.sum[i] + partitions);
      if (model.argmax[i] === reference.argmax[i]) agreed += 1;
    });
  }
  const { mean, error } = meanOf(divergences);
  return { klDivergence: mean, klDivergenceError: error, top1Agreement: agreed / divergences.length };
}

function meanOf(values: readonly number[]): { mean: number; error: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1);
  return { mean, error: Math.sqrt(variance / values.length) };
}
