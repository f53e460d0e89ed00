import type { Engine } from "../engine/engine.js";
import type { LinearPlan } from "../formats/format.js";
import type { HessianProblem, PreparedHessian } from "../quantize/hessian.js";
import { quantizeLinear, type LinearResult } from "../quantize/linear.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import { quantizeInSlices } from "../quantize/slices.js";
import type { CrossProblem, Retargeting } from "../quantize/retarget.js";
import type { LinearReport } from "../report/report.js";
import type { Tensor } from "../safetensors/tensor.js";
import type { Checkpoint } from "../source/checkpoint.js";
import { orWithoutDevice } from "./gather-again.js";
import type { ResolvedSettings } from "./options.js";
import type { ShardWriter } from "./shard-writer.js";
import type { Stopwatch } from "./stopwatch.js";

/** What the linears of a run have in common. */
export interface LinearRun {
  readonly engine: Engine;
  readonly checkpoint: Checkpoint;
  /** The format's tensors of a linear. */
  readonly pack: (name: string, linear: QuantizedLinear) => Tensor[];
  readonly settings: ResolvedSettings;
  readonly writer: ShardWriter;
  readonly watch: Stopwatch;
  onLinear(report: LinearReport): void;
  onWarning(message: string): void;
  readonly signal: AbortSignal | undefined;
}

/** What quantizing a linear goes by. */
export interface Given {
  /** Its weight, where memory holds it anyway. */
  readonly weight?: Float32Array<ArrayBuffer>;
  /** Absent for `rtn`, and where the whole stage stays as it is. */
  readonly prepared?: PreparedHessian | HessianProblem;
  /** What gathered the Hessian: "CPU", or a GPU's name. */
  readonly device?: string;
  /** What computed its inputs. */
  readonly forward?: string;
  /** What the weight is retargeted by. */
  readonly retarget?: Retargeting | CrossProblem;
  readonly inputScales?: Float64Array;
}

/** A linear that is quantized and not yet written. */
export interface Quantized {
  readonly plan: LinearPlan;
  readonly linear: QuantizedLinear;
  readonly stats: LinearResult["stats"];
  /** With `weight` only. */
  readonly dequantized?: Float32Array<ArrayBuffer>;
  readonly notes: readonly string[];
  readonly how: Pick<NonNullable<LinearReport["quantized"]>, "method" | "device" | "forward" | "damp" | "deadInputs" | "awq">;
}

/** Quantizes one linear as planned, packs and writes it. */
export async function quantizeAndWrite(run: LinearRun, plan: LinearPlan): Promise<void> {
  const quantized = await quantizeOne(run, plan, {});
  if (quantized !== undefined) await write(run, quantized);
}

/**
 * Quantizes one linear as planned; with a Hessian that cannot be used, rounds it to nearest and says so. One without a scheme is only
 * reported: its own tensor is still to be copied.
 */
export async function quantizeOne(run: LinearRun, plan: LinearPlan, { weight, prepared, device, forward, retarget, inputScales }: Given): Promise<Quantized | undefined> {
  const { name, outFeatures, inFeatures, scheme, why } = plan;
  if (scheme === undefined) {
    run.onLinear({ name, outFeatures, inFeatures, note: why! });
    return undefined;
  }
  const { watch, settings } = run;
  const hessian = prepared !== undefined && "factor" in prepared ? prepared : undefined;
  const method = hessian === undefined ? "rtn" : "gptq";
  const tensor = `${name}.weight`;
  const shape = { rows: outFeatures, cols: inFeatures };
  const options = {
    name, scheme, method, recipe: settings,
    ...(hessian && { hessian }), ...(retarget && "cross" in retarget && { retarget }), ...(inputScales && { inputScales }),
  } as const;
  const { linear, dequantized, stats } = await watch.time("sweep", async (): Promise<Omit<LinearResult, "dequantized"> & Partial<LinearResult>> => {
    const readRows = (from: number, to: number) => watch.time("read", () => run.checkpoint.readRows(tensor, Array.from({ length: to - from }, (_, i) => from + i)));
    const quantize = () => (weight === undefined ? quantizeInSlices(run.engine, shape, readRows, options) : quantizeLinear(run.engine, { ...shape, data: weight }, options));
    return orWithoutDevice(quantize, quantize, (lost) => { run.onWarning(`${name}: ${lost.message}; it is quantized without it`); });
  });
  return {
    plan, linear, stats, notes: troubles(prepared, retarget, settings.damp, stats.clippedScales),
    how: { method, ...(hessian && device !== undefined && { device }), ...(hessian && forward !== undefined && { forward }), ...(hessian && { damp: hessian.damp, deadInputs: hessian.dead.length }), ...(inputScales && { awq: spreadOf(inputScales) }) },
    ...(dequantized && { dequantized: dequantized.data }),
  };
}

/** How many times larger the largest scale is than the least. */
function spreadOf(scales: Float64Array): number {
  return scales.reduce((a, b) => Math.max(a, b), 0) / scales.reduce((a, b) => Math.min(a, b), Infinity);
}

/** Packs and writes a linear, and reports it. */
export async function write(run: LinearRun, { plan: { name, outFeatures, inFeatures }, linear, stats, notes, how }: Quantized): Promise<void> {
  const { watch } = run;
  const tensors = await watch.time("pack", () => run.pack(name, linear));
  await watch.time("write", async () => {
    for (const tensor of tensors) await run.writer.write(tensor);
  });
  for (const note of notes) run.onWarning(`${name}: ${note}`);
  const { bits, groupSize } = linear.scheme;
  const { relativeError, scales, seconds } = stats;
  run.onLinear({
    name, outFeatures, inFeatures,
    quantized: { ...how, bits, groupSize, relativeError, scales, seconds },
    ...(notes.length > 0 && { note: notes.join("; ") }),
  });
}

/** What came out worse than it should have. */
function troubles(
  prepared: PreparedHessian | HessianProblem | undefined, retarget: Retargeting | CrossProblem | undefined, damp: number, clippedScales: number,
): string[] {
  const told: string[] = [];
  if (prepared !== undefined && "problem" in prepared) told.push(`could not be calibrated, ${prepared.detail}: rounded to nearest`);
  else if (prepared !== undefined && prepared.raised > 0) {
    told.push(`damping raised from ${damp.toFixed(2)} to ${prepared.damp.toFixed(2)}: with less its Hessian is not positive definite`);
  }
  if (retarget !== undefined && "problem" in retarget) told.push(`not retargeted: ${retarget.detail}`);
  if (clippedScales > 0) told.push(`${String(clippedScales)} scales are larger than their dtype holds, and clipped`);
  return told;
}
