import type { Activations, Engine, PreparedGraph } from "../engine/engine.js";
import type { Format, LinearPlan } from "../formats/format.js";
import type { Fold, Stage } from "../model/decoder.js";
import { weightsOf } from "../model/weights.js";
import { foldedNorm, type Producer, type ScaledHessian } from "../quantize/awq.js";
import { largestScale } from "../quantize/grid.js";
import type { HessianProblem, PreparedHessian } from "../quantize/hessian.js";
import { dividedRows, prepareHessianIn, prepareScaledIn, quantizeLinear, scaleStats, type LinearResult } from "../quantize/linear.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import type { QuantScheme } from "../quantize/scheme.js";
import { quantizeInSlices } from "../quantize/slices.js";
import { crossCorrelation, type CrossProblem, type Retargeting } from "../quantize/retarget.js";
import type { LinearReport } from "../report/report.js";
import type { FloatDtype } from "../safetensors/floats.js";
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
 * @returns norms into which scales were folded: what is to be written in their place, by tensor
 */
export async function quantizeLayer(
  run: LayerRun, stages: readonly Stage[], hidden: readonly Spool[], into: readonly Spool[] | undefined, alike: boolean,
): Promise<ReadonlyMap<string, Float32Array<ArrayBuffer>>> {
  let states = hidden;
  /** For each stream the tensors that its next stages need and that are at hand. */
  const seen = hidden.map(() => new Map<string, Float32Array<ArrayBuffer>>());
  let same = alike;
  const norms = new Map<string, Float32Array<ArrayBuffer>>();
  /** Linears of the stage before: the next may still divide their outputs. */
  let done: Quantized[] = [];
  for (const stage of stages) {
    const last = stage.x === undefined;
    if (last && into === undefined) break;
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
    const weights = quantizing === undefined ? new Map<string, Float32Array<ArrayBuffer>>() : await weightsOfLinears(run, stage, stage !== stages.at(-1));
    const { prepared, retarget, fold } = gathering === undefined ? {} : await prepare(run, stage, gathering, quantizing!.scheme!, [...weights.values()], done);
    if (fold?.norm !== undefined) norms.set(...fold.norm);
    for (const quantized of done) await write(run, fold?.divided === quantized ? { ...quantized, ...dividedBy(quantized, fold.rows) } : quantized);
    done = [];
    for (const { name } of stage.linears) {
      run.signal?.throwIfAborted();
      const weight = weights.get(name);
      const quantized = await quantizeOne(run, run.plans.get(name)!, { ...(weight && { weight }), ...(prepared && { prepared }), ...(retarget && { retarget }), ...(fold && { inputScales: fold.scales }) });
      if (quantized === undefined) continue;
      same = false;
      done.push(quantized);
      [quantized.dequantized, weight].forEach((values, i) => values && seen[i]?.set(`${name}.weight`, values));
    }
  }
  for (const quantized of done) await write(run, quantized);
  return norms;
}

/** The weights of a stage's linears, where a later stage needs them; otherwise memory never holds all of them. */
async function weightsOfLinears(run: LayerRun, stage: Stage, needed: boolean): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  const weights = new Map<string, Float32Array<ArrayBuffer>>();
  if (!needed) return weights;
  for (const { name } of stage.linears) weights.set(name, await run.watch.time("read", () => run.checkpoint.readFloat32(`${name}.weight`)));
  return weights;
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

/** Activation-aware scales, and where their inverse goes: into a norm, or into the rows of a linear that is quantized already. */
interface Folding {
  readonly scales: Float64Array;
  readonly norm?: readonly [tensor: string, values: Float32Array<ArrayBuffer>];
  readonly divided?: Quantized;
  /** By row of `divided`. */
  readonly rows: Float64Array;
}

interface Prepared {
  readonly prepared: PreparedHessian | HessianProblem;
  readonly retarget?: Retargeting | CrossProblem;
  readonly fold?: Folding;
}

async function prepare(run: LayerRun, stage: Stage, gathering: Gathering, scheme: QuantScheme, weights: readonly Float32Array[], before: readonly Quantized[]): Promise<Prepared> {
  const { engine, settings, watch } = run;
  const { sum, cross: sums, rows } = await watch.time("hessian", () => gathering.finish());
  const options = { order: settings.order, groupSize: scheme.groupSize, damp: settings.damp };
  const source = settings.awq && weights.length > 0 ? await sourceOf(run, stage.fold, before) : undefined;
  const { prepared, scales, unscaled }: ScaledHessian = await watch.time("factor", async () =>
    source === undefined ? { prepared: await prepareHessianIn(engine, sum, rows, options) } : prepareScaledIn(engine, sum, rows, options, weights, scheme, source.producer),
  );
  const cross = sums && crossCorrelation(sums, rows);
  const hessian = unscaled ?? prepared;
  const retarget = cross === undefined || "problem" in hessian ? undefined : "problem" in cross ? cross : { cross, hessian };
  if (source === undefined || scales === undefined) return { prepared, ...(retarget && { retarget }) };
  const { norm, rowOf } = source.producer;
  const divided = new Float64Array(source.linear?.linear.outFeatures ?? 0);
  rowOf?.forEach((row, channel) => (divided[row] = scales[channel]));
  return {
    prepared, ...(retarget && { retarget }),
    fold: { scales, rows: divided, ...(norm && { norm: [source.name, foldedNorm(norm, scales)] as const }), ...(source.linear && { divided: source.linear }) },
  };
}

/** What makes a stage's input, if scales can be folded into it: a norm, or a linear of the stage before that was quantized. */
async function sourceOf(run: LayerRun, fold: Fold | undefined, before: readonly Quantized[]): Promise<{ readonly name: string; readonly producer: Producer; readonly linear?: Quantized } | undefined> {
  if (fold === undefined) return undefined;
  if ("linear" in fold) {
    const linear = before.find(({ plan }) => plan.name === fold.linear);
    return linear && { name: fold.linear, producer: { rowOf: fold.rowOf }, linear };
  }
  const weight = await run.watch.time("read", () => run.checkpoint.readFloat32(fold.norm));
  const { dtype } = run.checkpoint.tensors.get(fold.norm)!;
  return { name: fold.norm, producer: { norm: { weight, plus: fold.plus, dtype: dtype as FloatDtype } } };
}

/** What quantizing a linear goes by. */
interface Given {
  /** Its weight, where memory holds it anyway. */
  readonly weight?: Float32Array<ArrayBuffer>;
  /** Absent for `rtn`, and where the whole stage stays as it is. */
  readonly prepared?: PreparedHessian | HessianProblem;
  /** What the weight is retargeted by. */
  readonly retarget?: Retargeting | CrossProblem;
  readonly inputScales?: Float64Array;
}

/** A linear that is quantized and not yet written. */
interface Quantized {
  readonly plan: LinearPlan;
  readonly linear: QuantizedLinear;
  readonly stats: LinearResult["stats"];
  /** With `weight` only. */
  readonly dequantized?: Float32Array<ArrayBuffer>;
  readonly notes: readonly string[];
  readonly how: Pick<NonNullable<LinearReport["quantized"]>, "method" | "damp" | "deadInputs" | "awq">;
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
async function quantizeOne(run: LinearRun, plan: LinearPlan, { weight, prepared, retarget, inputScales }: Given): Promise<Quantized | undefined> {
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
    if (weight !== undefined) return quantizeLinear(run.engine, { ...shape, data: weight }, options);
    const readRows = (from: number, to: number) => watch.time("read", () => run.checkpoint.readRows(tensor, Array.from({ length: to - from }, (_, i) => from + i)));
    return quantizeInSlices(run.engine, shape, readRows, options);
  });
  return {
    plan, linear, stats, notes: troubles(prepared, retarget, settings.damp, stats.clippedScales),
    how: { method, ...(hessian && { damp: hessian.damp, deadInputs: hessian.dead.length }), ...(inputScales && { awq: spreadOf(inputScales) }) },
    ...(dequantized && { dequantized: dequantized.data }),
  };
}

/** What is left of a linear whose outputs are divided by s. */
function dividedBy({ linear, stats }: Quantized, s: Float64Array): Pick<Quantized, "linear" | "stats"> {
  const divided = dividedRows(linear, s);
  return { linear: divided, stats: { ...stats, ...scaleStats(divided.scales, largestScale(divided.scheme.scaleDtype)) } };
}

/** How many times larger the largest scale is than the least. */
function spreadOf(scales: Float64Array): number {
  return scales.reduce((a, b) => Math.max(a, b), 0) / scales.reduce((a, b) => Math.min(a, b), Infinity);
}

/** Packs and writes a linear, and reports it. */
async function write(run: LinearRun, { plan: { name, outFeatures, inFeatures }, linear, stats, notes, how }: Quantized): Promise<void> {
  const { watch } = run;
  const tensors = await watch.time("pack", () => run.format.pack(name, linear));
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
