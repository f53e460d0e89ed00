import type { Activations, Engine, PreparedGraph } from "../engine/engine.js";
import type { Format, LinearPlan } from "../formats/format.js";
import type { Stage } from "../model/decoder.js";
import { weightsOf } from "../model/weights.js";
import type { HessianProblem, PreparedHessian } from "../quantize/hessian.js";
import { prepareHessianIn, quantizeLinear, type LinearResult } from "../quantize/linear.js";
import { quantizeInSlices } from "../quantize/slices.js";
import { crossCorrelation, type CrossCorrelation, type CrossProblem } from "../quantize/retarget.js";
import type { LinearReport } from "../report/report.js";
import type { Checkpoint } from "../source/checkpoint.js";
import type { ResolvedSettings } from "./options.js";
import type { ShardWriter } from "./shard-writer.js";
import type { BatchState, Spool } from "./spool.js";
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
  /** A spool for what a stage leaves in a stream, in which a batch takes `width` values a token. */
  spool(stage: string, stream: number, width: number): Spool;
  /** Called after each batch of a stage. */
  onBatch(stage: Stage, batch: number): void;
}

/**
 * Quantizes one decoder layer: each stage is run on what the quantized stages before it leave, its linears are quantized against the
 * Hessian of their input, packed and written, and the next stage runs on them. With a second stream, the same tokens go through the
 * original weights beside it, and the linears are aimed at what they give there.
 * @param hidden the hidden states that come in, a spool a stream: the quantized model's, then the original's if there is retargeting; empty afterwards
 * @param into where the hidden states go that come out; absent after the last layer, where nobody needs them
 * @param alike both streams are still the same, before the first layer
 */
export async function quantizeLayer(
  run: LayerRun, stages: readonly Stage[], hidden: readonly Spool[], into: readonly Spool[] | undefined, alike: boolean,
): Promise<void> {
  let states = hidden;
  /** For each stream the tensors that its next stages need and that are at hand. */
  const seen = hidden.map(() => new Map<string, Float32Array<ArrayBuffer>>());
  let same = alike;
  for (const stage of stages) {
    const last = stage.x === undefined;
    if (last && into === undefined) return;
    // Linears of one stage have one input and one scheme: readers fuse them.
    const quantizing = stage.linears.map(({ name }) => run.plans.get(name)!).find(({ scheme }) => scheme !== undefined);
    const gathering = quantizing && (await gatheringOf(run.engine, quantizing.inFeatures, hidden.length > 1 && !same));
    const looks = onlyLooks(stage);
    const passages: Passage[] = [];
    try {
      for (const [i, from] of states.entries()) {
        // A stage that leaves nothing, and at whose input nobody looks, need not be run.
        if (looks && i >= (gathering?.streams ?? 0)) continue;
        const weights = await run.watch.time("read", () => weightsOf(stage, readerOf(run.checkpoint, seen, i)));
        const next = looks ? from : last ? into![i] : run.spool(stage.name, i, stateWidth(stage));
        passages.push(new Passage(run, stage, await run.engine.prepare(stage.graph, weights), from, next));
      }
      await runStage(run, stage, passages, gathering);
    } finally {
      for (const passage of passages) await passage.release();
    }
    if (!looks) {
      if (states !== hidden) for (const state of states) await state.close();
      states = passages.map(({ into: left }) => left);
    }
    const { prepared, cross } = gathering === undefined ? {} : await prepare(run, gathering, quantizing!.scheme!.groupSize);
    for (const { name } of stage.linears) {
      run.signal?.throwIfAborted();
      const quantized = await quantizeAndWrite(run, run.plans.get(name)!, stage !== stages.at(-1), prepared, cross);
      if (quantized === undefined) continue;
      same = false;
      [quantized.dequantized, quantized.weight].forEach((weight, i) => seen[i]?.set(`${name}.weight`, weight));
    }
  }
}

/** Reads the tensors of one stream: what a linear before it has left, or else what the checkpoint says. */
function readerOf(checkpoint: Checkpoint, seen: readonly Map<string, Float32Array<ArrayBuffer>>[], stream: number) {
  return async (tensor: string): Promise<Float32Array<ArrayBuffer>> => {
    const ready = seen[stream].get(tensor);
    // The graph takes the memory over; no later stage needs it.
    seen[stream].delete(tensor);
    if (ready !== undefined) return ready;
    const values = await checkpoint.readFloat32(tensor);
    // What is not quantized is the same in every stream, and read once.
    for (const other of seen.slice(stream + 1)) if (!other.has(tensor)) other.set(tensor, values.slice());
    return values;
  };
}

/** What is gathered of a stage's inputs, of the first `streams` streams. */
interface Gathering {
  readonly streams: number;
  add(xs: readonly Activations[]): Promise<readonly Activations[]>;
  finish(): Promise<{ readonly sum: Float32Array<ArrayBuffer>; readonly cross?: Float32Array<ArrayBuffer>; readonly rows: number }>;
}

async function gatheringOf(engine: Engine, n: number, both: boolean): Promise<Gathering> {
  if (both) {
    const accumulator = await engine.crossHessian(n);
    return { streams: 2, add: ([x, original]) => accumulator.add(x, original), finish: () => accumulator.finish() };
  }
  const accumulator = await engine.hessian(n);
  return { streams: 1, add: async ([x]) => [await accumulator.add(x)], finish: () => accumulator.finish() };
}

/** Values a token that a stage leaves behind. */
function stateWidth(stage: Stage): number {
  const widths = new Map([...stage.graph.inputs, ...stage.graph.outputs].map(({ name, width }) => [name, width]));
  return stage.carry.reduce((sum, name) => sum + widths.get(name)!, 0);
}

/** Whether a stage (a norm) leaves its inputs where they lie, and no more. */
function onlyLooks(stage: Stage): boolean {
  return stage.carry.every((name) => stage.graph.inputs.some((input) => input.name === name)) && stage.carry.length === stage.graph.inputs.length;
}

/** Runs all batches through a stage, the streams side by side. */
async function runStage(run: LayerRun, stage: Stage, passages: readonly Passage[], gathering: Gathering | undefined): Promise<void> {
  for (let batch = 0; batch < run.batches; batch += 1) {
    run.signal?.throwIfAborted();
    const all: BatchState[] = [];
    for (const passage of passages) all.push(await passage.run(batch));
    if (gathering !== undefined) {
      const xs = await run.watch.time("hessian", () => gathering.add(all.slice(0, gathering.streams).map((values) => values[stage.x!])));
      xs.forEach((x, i) => (all[i][stage.x!] = x));
    }
    for (const [i, passage] of passages.entries()) await passage.leave(batch, all[i]);
    run.onBatch(stage, batch);
  }
  for (const passage of passages) await passage.written();
}

/** The way of one stream through a stage: each batch is taken from a spool, run, and put into another. */
class Passage {
  private putting = Promise.resolve();
  private coming: { readonly held: boolean; readonly state: Promise<BatchState> };
  private held = false;

  /** @param into where what lives on is put: `from` itself, if the stage only looks at it */
  constructor(
    private readonly layer: LayerRun,
    private readonly stage: Stage,
    private readonly graph: PreparedGraph,
    private readonly from: Spool,
    readonly into: Spool,
  ) {
    this.coming = this.take(0);
  }

  /** Everything that goes into the stage and comes out of it, by name. */
  async run(batch: number): Promise<BatchState> {
    const { watch, batches } = this.layer;
    const state = await watch.time("read", () => this.coming.state);
    this.held = this.coming.held;
    // Read ahead while the engine computes.
    if (batch + 1 < batches) this.coming = this.take(batch + 1);
    const { inputs, outputs } = await watch.time("forward", () => this.graph.run(state));
    return { ...inputs, ...outputs };
  }

  /** Keeps what lives on, and gives back the rest. */
  async leave(batch: number, all: Readonly<BatchState>): Promise<void> {
    const { engine, watch } = this.layer;
    const recycle = (given: readonly Activations[]): void => given.forEach((activations) => engine.recycle(activations));
    const { carry } = this.stage;
    const kept = Object.fromEntries(carry.map((name) => [name, all[name]]));
    recycle(Object.keys(all).filter((name) => !carry.includes(name)).map((name) => all[name]));
    if (this.into === this.from) {
      recycle(this.from.restore(batch, kept, this.held));
    } else {
      await watch.time("write", () => this.putting);
      // Written behind, while the engine computes the next batch.
      this.putting = this.into.put(batch, kept).then(recycle);
      this.putting.catch(() => undefined);
    }
  }

  /** Returns when all that was put is where it belongs. */
  written(): Promise<void> {
    return this.layer.watch.time("write", () => this.putting);
  }

  release(): Promise<void> {
    return this.graph.release();
  }

  private take(batch: number) {
    const held = this.from.isInMemory(batch);
    const state = this.from.take(batch);
    // An error is thrown by whoever awaits it.
    state.catch(() => undefined);
    return { held, state };
  }
}

async function prepare({ engine, settings, watch }: LayerRun, gathering: Gathering, groupSize: number): Promise<{
  readonly prepared: PreparedHessian | HessianProblem;
  readonly cross: CrossCorrelation | CrossProblem | undefined;
}> {
  const { sum, cross, rows } = await watch.time("hessian", () => gathering.finish());
  const prepared = await watch.time("factor", () => prepareHessianIn(engine, sum, rows, { order: settings.order, groupSize, damp: settings.damp }));
  return { prepared, cross: cross && crossCorrelation(cross, rows) };
}

/**
 * Quantizes one linear as planned, packs and writes it; with a Hessian that cannot be used, rounds it to nearest and says so.
 * Returns what a reader will make of it, and the weight as it was, where they are needed.
 * @param plan one without a scheme is only reported: its own tensor is still to be copied
 * @param needed whether a later stage needs the weights; otherwise memory never holds all of them
 * @param prepared absent for `rtn`, and where the whole stage stays as it is
 * @param cross what the weight is retargeted by
 */
export async function quantizeAndWrite(
  run: LinearRun,
  plan: LinearPlan,
  needed: boolean,
  prepared?: PreparedHessian | HessianProblem,
  cross?: CrossCorrelation | CrossProblem,
): Promise<{ readonly weight: Float32Array<ArrayBuffer>; readonly dequantized: Float32Array<ArrayBuffer> } | undefined> {
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
  const options = { name, scheme, method, recipe: settings, ...(hessian && { hessian }), ...(hessian && cross && "matrix" in cross && { cross }) } as const;
  const weight = needed ? await watch.time("read", () => run.checkpoint.readFloat32(tensor)) : undefined;
  const { linear, dequantized, stats } = await watch.time("sweep", async (): Promise<Omit<LinearResult, "dequantized"> & Partial<LinearResult>> => {
    if (weight !== undefined) return quantizeLinear(run.engine, { ...shape, data: weight }, options);
    const readRows = (from: number, to: number) => watch.time("read", () => run.checkpoint.readRows(tensor, Array.from({ length: to - from }, (_, i) => from + i)));
    return quantizeInSlices(run.engine, shape, readRows, options);
  });
  const tensors = await watch.time("pack", () => run.format.pack(name, linear));
  await watch.time("write", async () => {
    for (const tensor of tensors) await run.writer.write(tensor);
  });

  const notes = troubles(prepared, cross, settings.damp, stats.clippedScales);
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
  return weight && dequantized && { weight, dequantized: dequantized.data };
}

/** What came out worse than it should have. */
function troubles(
  prepared: PreparedHessian | HessianProblem | undefined, cross: CrossCorrelation | CrossProblem | undefined, damp: number, clippedScales: number,
): string[] {
  const told: string[] = [];
  if (prepared !== undefined && "problem" in prepared) told.push(`could not be calibrated, ${prepared.detail}: rounded to nearest`);
  else if (prepared !== undefined && prepared.raised > 0) {
    told.push(`damping raised from ${damp.toFixed(2)} to ${prepared.damp.toFixed(2)}: with less its Hessian is not positive definite`);
  }
  if (cross !== undefined && "problem" in cross) told.push(`not retargeted: ${cross.detail}`);
  if (clippedScales > 0) told.push(`${String(clippedScales)} scales are larger than their dtype holds, and clipped`);
  return told;
}
