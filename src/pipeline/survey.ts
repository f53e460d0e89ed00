import type { Activations, HessianAccumulator, PreparedGraph } from "../engine/engine.js";
import type { DeviceLost } from "../engine/device-lost.js";
import type { LinearPlan } from "../formats/format.js";
import type { Decoder, Stage } from "../model/decoder.js";
import { carryOn, runStages } from "../model/forward.js";
import { finalNormStage } from "../model/head.js";
import { weightsOf } from "../model/weights.js";
import { inputHessian } from "../quantize/rounding-errors.js";
import { batchesOf, embedBatch, tokensOf, type Batch } from "./batches.js";
import { divergencesFrom } from "./divergences.js";
import { gatherAgain, orWithoutDevice } from "./gather-again.js";
import type { ScratchFile } from "./sink.js";
import { rangesOf, readingOf } from "./reading.js";
import { MemoryBudget, Spool, type BatchState } from "./spool.js";
import { measureStage, type MeasuredGroup, type SurveyedGroup, type SurveyTools } from "./survey-stage.js";

/** What a survey takes of the calibration text. */
export const SURVEYED = {
  /** Tokens a sequence, sequences that the Hessians are gathered on, and those of them on which the model's output is followed. */
  sequenceLength: 256,
  sequences: 16,
  followed: 2,
  /** At which the predictions are compared. Neighbours are alike, and each costs a row of the vocabulary a variant. */
  positions: 256,
} as const;

export interface Survey {
  /** Tokens behind the Hessians, and positions behind the divergences. */
  readonly tokens: number;
  readonly positions: number;
  readonly groups: readonly SurveyedGroup[];
}

export interface SurveyRun extends SurveyTools {
  readonly decoder: Decoder;
  /** Those with a scheme are surveyed, at its group size and dtype of scales. */
  readonly linears: readonly LinearPlan[];
  readonly sequences: readonly Uint32Array[];
  /** Bytes of hidden states held in memory. */
  readonly memory: number;
  /** A new file for those beyond. */
  scratch(name: string): Promise<ScratchFile>;
  /** Called after each layer. */
  onLayer(layer: number): void;
  /** Called when a device failed beside the engine, which goes on without it. */
  onLost(lost: DeviceLost): void;
}

/** A group whose effect is to be followed from its own stage on. */
interface Departure {
  /** Index of the stage whose graph applies the linears. */
  readonly stage: number;
  /** What that stage takes, of every followed batch. */
  readonly states: readonly BatchState[];
  /** By tensor name. */
  readonly weights: Map<string, Float32Array<ArrayBuffer>>;
}

/**
 * One pass of the original model over a little text. At each stage, from the Hessian of its input: loud channels, and what rounding
 * would cost each linear at several bits. And for each group of linears what rounding it alone does to the model's predictions: its
 * hidden states are carried on through the rest of the model beside the clean ones. All variants go through a layer before
 * the next is read, so every weight is read once, and memory is one layer's.
 */
export async function surveyModel(run: SurveyRun): Promise<Survey> {
  const { checkpoint, decoder, memory } = run;
  const layers = Array.from({ length: decoder.layers }, (_, layer) => decoder.tensorsOf(layer).filter((name) => checkpoint.tensors.has(name)));
  const reading = readingOf(checkpoint, layers.map((names) => rangesOf(checkpoint, names)), memory);
  try {
    return await surveyRead({ ...run, checkpoint: reading.checkpoint, memory: memory - reading.memory }, reading.enter);
  } finally {
    reading.close();
  }
}

/** @param enter told before each layer */
async function surveyRead(run: SurveyRun, enter: (layer: number) => void): Promise<Survey> {
  const { engine, checkpoint, decoder, signal } = run;
  const sequences = spread(run.sequences, SURVEYED.sequences).map((sequence) => sequence.subarray(0, SURVEYED.sequenceLength));
  // Followed ones make batches of their own, the first.
  const followed = batchesOf(sequences.slice(0, SURVEYED.followed));
  const batches = [...followed, ...batchesOf(sequences.slice(SURVEYED.followed))];
  const positions = Math.max(...sequences.map(({ length }) => length));
  const budget = new MemoryBudget(run.memory);
  const spool = (name: string, width: number, all: readonly Batch[]): Spool => new Spool(budget, 4 * width * Math.max(...all.map(tokensOf)), () => run.scratch(name));
  const recycle = (state: BatchState): void => { Object.values(state).forEach((value) => { engine.recycle(value); }); };

  const seen: MeasuredGroup[] = [];
  let clean: BatchState[] = [];
  for (const batch of batches) clean.push({ h: await embedBatch((tensor, rows) => checkpoint.readRows(tensor, rows), decoder, batch) });
  let variants = spool("survey-0.bin", decoder.hiddenSize, followed);
  for (let layer = 0; layer < decoder.layers; layer += 1) {
    enter(layer);
    const stages = decoder.stages(layer, positions);
    const next = spool(`survey-${String((layer + 1) % 2)}.bin`, decoder.hiddenSize, followed);
    const graphs: PreparedGraph[] = [];
    try {
      const { groups, departures } = await look(layer, stages, graphs);
      let at = 0;
      for (let variant = 0; variant < seen.length; variant += 1) {
        for (let b = 0; b < followed.length; b += 1, at += 1) {
          signal?.throwIfAborted();
          await keep(next, at, await follow(stages, graphs, 0, await variants.take(at)));
        }
      }
      for (const { stage, states, weights } of departures) {
        const changed = await engine.prepare(stages[stage].graph, await weightsOf(stages[stage], async (name) => weights.get(name) ?? checkpoint.readFloat32(name)));
        for (const state of states) {
          signal?.throwIfAborted();
          const left = carryOn(engine, stages[stage], await changed.run(state));
          await keep(next, at, await follow(stages, graphs, stage + 1, left));
          at += 1;
        }
        await changed.release();
      }
      seen.push(...groups);
    } finally {
      for (const graph of graphs) await graph.release();
    }
    await variants.close();
    variants = next;
    run.onLayer(layer);
  }

  const all = seen.length * followed.length;
  const stride = Math.max(1, Math.floor(followed.reduce((sum, batch) => sum + tokensOf(batch), 0) / SURVEYED.positions));
  const finals = spool("survey-final.bin", decoder.hiddenSize, followed);
  const norm = finalNormStage(decoder);
  async function* states(): AsyncGenerator<Activations> {
    for (const state of clean.slice(0, followed.length)) yield state["h"];
    for (let i = 0; i < all; i += 1) yield (await variants.take(i))["h"];
  }
  // Of the clean states and of each variant: its batches side by side, thinned to the positions that are compared.
  let rows: Float32Array<ArrayBuffer>[] = [];
  let compared = 0;
  let at = 0;
  for await (const x of runStages(engine, [norm], (name) => checkpoint.readFloat32(name), states())) {
    signal?.throwIfAborted();
    rows.push(everyNth(x, stride));
    engine.recycle(x);
    if (rows.length < followed.length) continue;
    const h = rowsTogether(rows, decoder.hiddenSize);
    rows = [];
    compared = h.tokens;
    await keep(finals, at++, { h });
  }
  for (const state of clean.slice(followed.length)) recycle(state);
  const divergences = await divergencesFrom(engine, decoder, (tensor, some) => checkpoint.readRows(tensor, some), finals, compared, seen.length, signal);
  await variants.close();
  await finals.close();
  return {
    tokens: batches.reduce((sum, batch) => sum + tokensOf(batch), 0),
    positions: compared,
    groups: seen.map((group, i) => ({ ...group, divergence: divergences[i] })),
  };

  /** Takes the clean states through a layer and surveys its linears; the layer's graphs go into `graphs`. */
  async function look(layer: number, stages: readonly Stage[], graphs: PreparedGraph[]): Promise<{ groups: MeasuredGroup[]; departures: Departure[] }> {
    const groups: MeasuredGroup[] = [];
    const departures: Departure[] = [];
    const plans = new Map(run.linears.map((linear) => [linear.name, linear]));
    for (const [i, stage] of stages.entries()) {
      graphs.push(await engine.prepare(stage.graph, await weightsOf(stage, (name) => checkpoint.readFloat32(name))));
      const schemes = stage.linears.flatMap(({ name }) => plans.get(name)?.scheme ?? []);
      const makeAccumulator = (): Promise<HessianAccumulator> => engine.hessian(stage.linears[0].inFeatures);
      const accumulator = schemes.length > 0 ? await orWithoutDevice(makeAccumulator, makeAccumulator, (lost) => run.onLost(lost)) : undefined;
      const after: BatchState[] = [];
      for (const state of clean) {
        signal?.throwIfAborted();
        const { inputs, outputs } = await graphs[i].run(state);
        if (accumulator !== undefined) outputs[stage.x!] = await accumulator.add(outputs[stage.x!]);
        after.push(carryOn(engine, stage, { inputs, outputs }));
      }
      clean = after;
      if (accumulator === undefined) continue;
      const { sum, rows: tokens } = await orWithoutDevice(() => accumulator.finish(), async () => {
        const another = await makeAccumulator();
        await gatherAgain(engine, stage, (name) => checkpoint.readFloat32(name), clean.length, (batch, use) => use([clean[batch]]), { add: async ([x]) => [await another.add(x)] });
        return another.finish();
      }, (lost) => run.onLost(lost));
      const measured = await measureStage(run, layer, stage, schemes[0], inputHessian(sum, tokens));
      groups.push(measured.group);
      departures.push({ stage: i + 1, weights: measured.rounded, states: clean.slice(0, followed.length).map(copyOf) });
    }
    return { groups, departures };
  }

  /** Takes a state through the rest of a layer. */
  async function follow(stages: readonly Stage[], graphs: readonly PreparedGraph[], from: number, state: BatchState): Promise<BatchState> {
    let values = state;
    for (let i = from; i < stages.length; i += 1) values = carryOn(engine, stages[i], await graphs[i].run(values));
    return values;
  }

  async function keep(into: Spool, at: number, state: BatchState): Promise<void> {
    (await into.put(at, state)).forEach((activations) => { engine.recycle(activations); });
  }
}

/** `count` of them, evenly from first to last: neighbours may be of one document. */
function spread<T>(all: readonly T[], count: number): T[] {
  const taken = Math.min(count, all.length);
  return Array.from({ length: taken }, (_, i) => all[Math.floor((i * all.length) / taken)]);
}

function copyOf(state: BatchState): BatchState {
  return Object.fromEntries(Object.entries(state).map(([name, value]) => [name, { ...value, data: value.data.slice() }]));
}

/** Every n-th row of [batch · tokens, width]. */
function everyNth({ data, width }: Activations, n: number): Float32Array<ArrayBuffer> {
  const count = Math.ceil(data.length / width / n);
  const rows = new Float32Array(count * width);
  for (let i = 0; i < count; i += 1) rows.set(data.subarray(i * n * width, (i * n + 1) * width), i * width);
  return rows;
}

function rowsTogether(parts: readonly Float32Array<ArrayBuffer>[], width: number): Activations {
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return { batch: 1, tokens: data.length / width, width, data };
}
