import type { Engine, GatheredHessian } from "../engine/engine.js";
import type { Fold, Stage } from "../model/decoder.js";
import { foldedNorm, prepareScaled, type Producer, type ScaledHessian } from "../quantize/awq.js";
import { largestScale } from "../quantize/grid.js";
import type { HessianProblem, PreparedHessian } from "../quantize/hessian.js";
import { dividedRows, prepareHessianIn, scaleStats } from "../quantize/linear.js";
import { crossCorrelation, type CrossProblem, type Retargeting } from "../quantize/retarget.js";
import type { QuantScheme } from "../quantize/scheme.js";
import { gridUnit } from "../quantize/super-block.js";
import type { FloatDtype } from "../safetensors/floats.js";
import type { Gatherer } from "./gather-again.js";
import type { LinearRun, Quantized } from "./write-linear.js";

/** What was gathered of a stage's inputs. */
export type Gathered = GatheredHessian & { readonly cross?: Float32Array<ArrayBuffer> };

/** What gathers a stage's inputs, of the first `streams` streams. */
export interface Gathering extends Gatherer {
  readonly streams: number;
  finish(): Promise<Gathered>;
}

export async function gatheringOf(engine: Engine, n: number, both: boolean): Promise<Gathering> {
  if (both) {
    const accumulator = await engine.crossHessian(n);
    return { streams: 2, add: ([x, original]) => accumulator.add(x, original), finish: () => accumulator.finish() };
  }
  const accumulator = await engine.hessian(n);
  return { streams: 1, add: async ([x]) => [await accumulator.add(x)], finish: () => accumulator.finish() };
}

/** Activation-aware scales, and where their inverse goes: into a norm, or into the rows of a linear that is quantized already. */
interface Folding {
  readonly scales: Float64Array;
  readonly norm?: readonly [tensor: string, values: Float32Array<ArrayBuffer>];
  readonly divided?: Quantized;
  /** By row of `divided`. */
  readonly rows: Float64Array;
}

interface Prepared {
  /** What gathered the Hessian. */
  readonly device: string;
  readonly prepared: PreparedHessian | HessianProblem;
  readonly retarget?: Retargeting | CrossProblem;
  readonly fold?: Folding;
}

export async function prepare(run: LinearRun, stage: Stage, { sum, cross: sums, rows, device }: Gathered, scheme: QuantScheme, weights: readonly Float32Array[], before: readonly Quantized[]): Promise<Prepared> {
  const { engine, settings, watch } = run;
  const options = { order: settings.order, groupSize: scheme.groupSize, unit: gridUnit(scheme), damp: settings.damp, shrink: settings.shrink };
  const source = settings.awq && weights.length > 0 ? await sourceOf(run, stage.fold, before) : undefined;
  const factoring = watch.time("factor", async (): Promise<ScaledHessian> =>
    source === undefined ? { prepared: await prepareHessianIn(engine, sum, rows, options) } : prepareScaled(engine, sum, rows, options, weights, scheme, source.producer),
  );
  // Meanwhile, since it is this thread's work.
  const cross = sums && crossCorrelation(sums, rows);
  const { prepared, scales, unscaled } = await factoring;
  const hessian = unscaled ?? prepared;
  const retarget = cross === undefined || "problem" in hessian ? undefined : "problem" in cross ? cross : { cross, hessian };
  if (source === undefined || scales === undefined) return { device, prepared, ...(retarget && { retarget }) };
  const { norm, rowOf } = source.producer;
  const divided = new Float64Array(source.linear?.linear.outFeatures ?? 0);
  rowOf?.forEach((row, channel) => (divided[row] = scales[channel]));
  return {
    device, prepared, ...(retarget && { retarget }),
    fold: { scales, rows: divided, ...(norm && { norm: [source.name, foldedNorm(norm, scales)] as const }), ...(source.linear && { divided: source.linear }) },
  };
}

/** What makes a stage's input, if scales can be folded into it: a norm, or a linear of the stage before that was quantized. */
async function sourceOf(run: LinearRun, fold: Fold | undefined, before: readonly Quantized[]): Promise<{ readonly name: string; readonly producer: Producer; readonly linear?: Quantized } | undefined> {
  if (fold === undefined) return undefined;
  if ("linear" in fold) {
    const linear = before.find(({ plan }) => plan.name === fold.linear);
    return linear && { name: fold.linear, producer: { rowOf: fold.rowOf }, linear };
  }
  const weight = await run.watch.time("read", () => run.checkpoint.readFloat32(fold.norm));
  const { dtype } = run.checkpoint.tensors.get(fold.norm)!;
  return { name: fold.norm, producer: { norm: { weight, plus: fold.plus, dtype: dtype as FloatDtype } } };
}

/** What is left of a linear whose outputs are divided by s. */
export function dividedBy({ linear, stats }: Quantized, s: Float64Array): Pick<Quantized, "linear" | "stats"> {
  const divided = dividedRows(linear, s);
  return { linear: divided, stats: { ...stats, ...scaleStats(divided.scales, largestScale(divided.scheme.scaleDtype)) } };
}
