import type { Activations, Engine, HessianAccumulator } from "../engine/engine.js";
import type { Format, LinearPlan } from "../formats/format.js";
import type { Stage } from "../model/decoder.js";
import { weightsOf } from "../model/weights.js";
import type { HessianProblem, PreparedHessian } from "../quantize/hessian.js";
import { prepareHessianIn, quantizeLinear } from "../quantize/linear.js";
import type { LinearReport } from "../report/report.js";
import type { Checkpoint } from "../source/checkpoint.js";
import type { ResolvedSettings } from "./options.js";
import type { ShardWriter } from "./shard-writer.js";
import type { Spool } from "./spool.js";
import type { Stopwatch } from "./stopwatch.js";

/** What the linears of a run have in common. */
export interface LinearRun {
  readonly engine: Engine;
  readonly checkpoint: Checkpoint;
  readonly format: Format;
  readonly settings: ResolvedSettings;
  readonly writer: ShardWriter;
  readonly watch: Stopwatch;
  onLinear(report: LinearReport): void;
  onWarning(message: string): void;
  readonly signal: AbortSignal | undefined;
}

/** What the layers of a calibrated run have in common. */
export interface LayerRun extends LinearRun {
  /** By module name. */
  readonly plans: ReadonlyMap<string, LinearPlan>;
  readonly batches: number;
  /** A spool for what a stage leaves, in which a batch takes `width` values a token. */
  spool(stage: string, width: number): Spool;
  /** Called after each batch of a stage. */
  onBatch(stage: Stage, batch: number): void;
}

/**
 * Quantizes one decoder layer: each stage is run on what the quantized stages before it leave, its linears are quantized against the
 * Hessian of their input, packed and written, and the next stage runs on them.
 * @param hidden the hidden states that come in; it is empty afterwards
 * @param into where the hidden states go that come out; absent after the last layer, where nobody needs them
 */
export async function quantizeLayer(run: LayerRun, stages: readonly Stage[], hidden: Spool, into: Spool | undefined): Promise<void> {
  let state = hidden;
  /** Tensors that are quantized by now, as later stages see them. */
  const done = new Map<string, Float32Array<ArrayBuffer>>();
  for (const stage of stages) {
    const last = stage.x === undefined;
    if (last && into === undefined) return;
    const weights = await run.watch.time("read", () =>
      weightsOf(stage, async (tensor) => {
        const quantized = done.get(tensor);
        // The graph takes the memory over; no later stage needs it.
        done.delete(tensor);
        return quantized ?? run.checkpoint.readFloat32(tensor);
      }),
    );
    // Linears of one stage have one input and one scheme: readers fuse them.
    const quantizing = stage.linears.map(({ name }) => run.plans.get(name)!).find(({ scheme }) => scheme !== undefined);
    const hessian = quantizing === undefined ? undefined : await run.engine.hessian(quantizing.inFeatures);
    const next = last ? into! : run.spool(stage.name, stateWidth(stage));
    const left = await runStage(run, stage, weights, hessian, state, next);
    if (left !== state && state !== hidden) await state.close();
    state = left;
    const prepared = hessian === undefined ? undefined : await prepare(run, hessian, quantizing!.scheme!.groupSize);
    for (const { name } of stage.linears) {
      run.signal?.throwIfAborted();
      const dequantized = await quantizeAndWrite(run, run.plans.get(name)!, prepared);
      if (dequantized !== undefined) done.set(`${name}.weight`, dequantized);
    }
  }
}

/** Values a token that a stage leaves behind. */
function stateWidth(stage: Stage): number {
  const widths = new Map([...stage.graph.inputs, ...stage.graph.outputs].map(({ name, width }) => [name, width]));
  return stage.carry.reduce((sum, name) => sum + widths.get(name)!, 0);
}

async function runStage(
  run: LayerRun,
  stage: Stage,
  weights: ReadonlyMap<string, Float32Array<ArrayBuffer>>,
  hessian: HessianAccumulator | undefined,
  from: Spool,
  into: Spool,
): Promise<Spool> {
  const { engine, watch } = run;
  const recycle = (all: readonly Activations[]): void => all.forEach((activations) => engine.recycle(activations));
  // A stage that only looks (a norm) leaves its inputs where they lie.
  const onlyLooks = stage.carry.every((name) => stage.graph.inputs.some((input) => input.name === name)) && stage.carry.length === stage.graph.inputs.length;
  const graph = await engine.prepare(stage.graph, weights);
  try {
    let putting = Promise.resolve();
    let held = from.isInMemory(0);
    let coming = from.take(0);
    for (let batch = 0; batch < run.batches; batch += 1) {
      run.signal?.throwIfAborted();
      const state = await watch.time("read", () => coming);
      const wasHeld = held;
      if (batch + 1 < run.batches) {
        // Read ahead while the engine computes.
        held = from.isInMemory(batch + 1);
        coming = from.take(batch + 1);
        coming.catch(() => undefined);
      }
      const { inputs, outputs } = await watch.time("forward", () => graph.run(state));
      if (hessian !== undefined) outputs[stage.x!] = await watch.time("hessian", () => hessian.add(outputs[stage.x!]));
      const all = { ...inputs, ...outputs };
      const kept = Object.fromEntries(stage.carry.map((name) => [name, all[name]]));
      recycle(Object.keys(all).filter((name) => !stage.carry.includes(name)).map((name) => all[name]));
      if (onlyLooks) {
        recycle(from.restore(batch, kept, wasHeld));
      } else {
        await watch.time("write", () => putting);
        // Written behind, while the engine computes the next batch.
        putting = into.put(batch, kept).then(recycle);
        putting.catch(() => undefined);
      }
      run.onBatch(stage, batch);
    }
    await watch.time("write", () => putting);
  } finally {
    await graph.release();
  }
  return onlyLooks ? from : into;
}

async function prepare({ engine, settings, watch }: LayerRun, accumulator: HessianAccumulator, groupSize: number): Promise<PreparedHessian | HessianProblem> {
  const { sum, rows } = await watch.time("hessian", () => accumulator.finish());
  return watch.time("factor", () => prepareHessianIn(engine, sum, rows, { order: settings.order, groupSize, damp: settings.damp }));
}

/**
 * Quantizes one linear as planned, packs and writes it; with a Hessian that cannot be used, rounds it to nearest and says so.
 * Returns what a reader will make of it, or undefined if it stays as it is: then its own tensor is still to be copied.
 * @param prepared absent for `rtn`, and where the whole stage stays as it is
 */
export async function quantizeAndWrite(
  run: LinearRun,
  plan: LinearPlan,
  prepared: PreparedHessian | HessianProblem | undefined,
): Promise<Float32Array<ArrayBuffer> | undefined> {
  const { name, outFeatures, inFeatures, scheme, why } = plan;
  if (scheme === undefined) {
    run.onLinear({ name, outFeatures, inFeatures, note: why! });
    return undefined;
  }
  const { watch, settings } = run;
  const hessian = prepared !== undefined && "factor" in prepared ? prepared : undefined;
  const method = hessian === undefined ? "rtn" : "gptq";
  const weight = await watch.time("read", () => run.checkpoint.readFloat32(`${name}.weight`));
  const { linear, dequantized, stats } = await watch.time("sweep", () =>
    quantizeLinear(run.engine, { rows: outFeatures, cols: inFeatures, data: weight }, { name, scheme, method, recipe: settings, ...(hessian && { hessian }) }),
  );
  const tensors = await watch.time("pack", () => run.format.pack(name, linear));
  await watch.time("write", async () => {
    for (const tensor of tensors) await run.writer.write(tensor);
  });

  const notes = troubles(prepared, settings.damp, stats.clippedScales);
  for (const note of notes) run.onWarning(`${name}: ${note}`);
  run.onLinear({
    name, outFeatures, inFeatures,
    quantized: {
      method, bits: scheme.bits, groupSize: scheme.groupSize,
      relativeError: stats.relativeError, scales: stats.scales,
      ...(hessian && { damp: hessian.damp, deadInputs: hessian.dead.length }),
      seconds: stats.seconds,
    },
    ...(notes.length > 0 && { note: notes.join("; ") }),
  });
  return dequantized.data;
}

/** What came out worse than it should have. */
function troubles(prepared: PreparedHessian | HessianProblem | undefined, damp: number, clippedScales: number): string[] {
  const told: string[] = [];
  if (prepared !== undefined && "problem" in prepared) told.push(`could not be calibrated, ${prepared.detail}: rounded to nearest`);
  else if (prepared !== undefined && prepared.raised > 0) {
    told.push(`damping raised from ${damp.toFixed(2)} to ${prepared.damp.toFixed(2)}: with less its Hessian is not positive definite`);
  }
  if (clippedScales > 0) told.push(`${String(clippedScales)} scales are larger than their dtype holds, and clipped`);
  return told;
}
