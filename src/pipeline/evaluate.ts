import { joinedTurns, type Document } from "../calibration/documents.js";
import { sequencesOf, type TextSource } from "../calibration/sample.js";
import type { Activations, Engine } from "../engine/engine.js";
import { InputError } from "../errors.js";
import { divergenceOf, noPredictions, perplexityOf, type Divergence, type Measures, type Predictions } from "../evaluate/predictions.js";
import { runStages } from "../model/forward.js";
import { finalNormStage } from "../model/head.js";
import type { Source } from "../source/source.js";
import { batchesOf, embedBatch, tokensOf, type Batch } from "./batches.js";
import type { RetryEvent } from "./events.js";
import { openModel, type Model } from "./model.js";
import { sequenceLengthOf } from "./prepare-run.js";
import type { ScratchFile } from "./sink.js";
import { MemoryBudget, Spool } from "./spool.js";
import { tokenizerOf } from "./tokenizer.js";
import { HeadSlice, SliceSums, vocabularySlices } from "./vocabulary.js";
import { withEngine } from "./with-engine.js";

export interface EvaluateSettings {
  /** Tokens a window; longer documents are cut. Default 2048, or what the model was made for if that is less. */
  readonly sequenceLength?: number;
  /** Stop after so many tokens of the text. Default: all of it; 131,072 of a data set. */
  readonly maxTokens?: number;
  /** Bytes of hidden states held in memory; beyond it they go to a file. Default 2 GB. */
  readonly memory?: number;
}

/** A data set is too large to be measured on whole. */
const DATA_SET_TOKENS = 2 ** 17;

export interface EvaluateJob {
  readonly model: Source;
  readonly against: Source | undefined;
  readonly settings: EvaluateSettings;
  readonly text: () => Promise<TextSource>;
  readonly engine: () => Promise<Engine>;
  /** A new file for hidden states that memory cannot hold. */
  readonly scratch: () => Promise<ScratchFile>;
  readonly onEvent?: (event: EvaluateEvent) => void;
  readonly signal?: AbortSignal;
}

export type EvaluateEvent =
  | RetryEvent
  | { readonly type: "text"; readonly origin: string; readonly documents: number; readonly windows: number; readonly tokens: number }
  | { readonly type: "progress"; readonly model: string; readonly step: string; /** 0 … 1 of all that is to be done. */ readonly done: number };

export interface Evaluation extends Measures {
  readonly model: string;
  readonly text: string;
  readonly windows: number;
  readonly sequenceLength: number;
  readonly against?: Divergence & { readonly model: string; readonly perplexity: number; readonly perplexityError: number };
}

/**
 * Measures a model on a text: each document is cut into windows from its start, each window is predicted by itself, and every token
 * but a window's first counts. Throws `InputError`; with `against`, also where the two models do not belong together.
 */
export async function runEvaluate(job: EvaluateJob): Promise<Evaluation> {
  const { maxTokens } = job.settings;
  if (maxTokens !== undefined && !(maxTokens >= 1)) throw new InputError(`max tokens is ${String(maxTokens)}; it must be at least 1`);
  const model = await openModel(job.model);
  const reference = job.against === undefined ? undefined : await openModel(job.against);
  const { vocabSize, maxPositions } = model.decoder;
  if (reference !== undefined && reference.decoder.vocabSize !== vocabSize) {
    throw new InputError(`${job.model.label} has a vocabulary of ${String(vocabSize)}, and ${job.against!.label} of ${String(reference.decoder.vocabSize)}: they cannot be compared`);
  }
  const sequenceLength = sequenceLengthOf(job.settings.sequenceLength, maxPositions, job.model.label);
  const text = await job.text();
  const origin = text.dataSet === undefined ? text.origin : `${text.origin}, commit ${text.dataSet.commit.slice(0, 8)}`;
  const { windows: sequences, documents } = await evaluationWindows(model, text, sequenceLength, maxTokens ?? (text.dataSet && DATA_SET_TOKENS));
  const tokens = sequences.reduce((sum, sequence) => sum + sequence.length, 0);
  job.onEvent?.({ type: "text", origin, documents, windows: sequences.length, tokens });
  // Equal lengths side by side make full batches; the order has no say in the means.
  const batches = batchesOf(sequences.sort((a, b) => b.length - a.length));

  return withEngine(job, async (engine) => {
    const steps = model.decoder.layers + (reference?.decoder.layers ?? 0) + 2;
    let step = 0;
    const progress = (of: Model, name: string) => () => {
      step += 1;
      job.onEvent?.({ type: "progress", model: of.checkpoint.source.label, step: name, done: step / steps });
    };
    const budget = new MemoryBudget(job.settings.memory ?? 2e9);
    const run = { engine, batches, budget, scratch: job.scratch, signal: job.signal };
    const last = await finalStates(run, model, progress(model, "layer"));
    const lastReference = reference === undefined ? undefined : await finalStates(run, reference, progress(reference, "layer"));
    const predictions = await predict(run, [model, last], reference && [reference, lastReference!]);
    await last.close();
    await lastReference?.close();
    progress(model, "lm_head")();
    const measures = perplexityOf(predictions, "model");
    return {
      model: job.model.label, text: origin, windows: sequences.length, sequenceLength, ...measures,
      ...(reference && { against: { model: job.against!.label, ...perplexityOf(predictions, "reference"), ...divergenceOf(predictions) } }),
    };
  });
}

/**
 * The windows of tokens that a text is measured in, document by document, and how many documents they are of; none begins once there are
 * `maxTokens`. Conversations are read turn by turn. Throws `InputError` for a text without tokens.
 */
export async function evaluationWindows(
  { checkpoint, decoder }: Model, text: TextSource, length: number, maxTokens = Infinity,
): Promise<{ readonly windows: Uint32Array[]; readonly documents: number }> {
  const tokenizer = await tokenizerOf(checkpoint);
  const windows: Uint32Array[] = [];
  let documents = 0;
  let tokens = 0;
  const all: AsyncIterable<Document> | Iterable<Document> = text.documents;
  for await (const document of all) {
    if (tokens >= maxTokens) break;
    documents += 1;
    for (const window of sequencesOf(joinedTurns(document), tokenizer, { length, vocabSize: decoder.vocabSize, origin: text.origin })) {
      if (tokens >= maxTokens) break;
      windows.push(window);
      tokens += window.length;
    }
  }
  if (windows.length === 0) throw new InputError(`${text.origin}: too little text to measure on`);
  return { windows, documents };
}

/** What the two models' passes have in common. */
export interface Pass {
  readonly engine: Engine;
  readonly batches: readonly Batch[];
  readonly budget: MemoryBudget;
  readonly scratch: () => Promise<ScratchFile>;
  readonly signal: AbortSignal | undefined;
}

/** What lm_head takes, of every batch. */
export async function finalStates(pass: Pass, { loadRows, decoder, load }: Model, onLayer: () => void): Promise<Spool> {
  let state = spoolFor(pass, decoder.hiddenSize);
  for (const [i, batch] of pass.batches.entries()) await state.put(i, { h: await embedBatch(loadRows, decoder, batch) });
  const positions = Math.max(...pass.batches.map((batch) => batch[0].length));
  for (let layer = 0; layer <= decoder.layers; layer += 1) {
    const stages = layer < decoder.layers ? decoder.stages(layer, positions) : [finalNormStage(decoder)];
    const next = spoolFor(pass, decoder.hiddenSize);
    let i = 0;
    for await (const h of runStages(pass.engine, stages, load, statesOf(pass, state))) {
      (await next.put(i, { h })).forEach((activations) => pass.engine.recycle(activations));
      i += 1;
    }
    await state.close();
    state = next;
    if (layer < decoder.layers) onLayer();
  }
  return state;
}

async function* statesOf({ batches, signal }: Pass, spool: Spool): AsyncGenerator<Activations> {
  for (const i of batches.keys()) {
    signal?.throwIfAborted();
    yield (await spool.take(i))["h"];
  }
}

/** lm_head, slice by slice of the vocabulary, on both models' final states, which stay as they are. */
export async function predict(pass: Pass, model: readonly [Model, Spool], reference: readonly [Model, Spool] | undefined): Promise<Predictions[]> {
  const { engine, batches } = pass;
  const sides = reference === undefined ? [model] : [model, reference];
  const { vocabSize } = model[0].decoder;
  const known = batches.map((batch) => noPredictions(targetsOf(batch), reference !== undefined));
  for (const tokens of vocabularySlices(vocabSize)) {
    const slices: HeadSlice[] = [];
    for (const [{ loadRows, decoder }] of sides) slices.push(await HeadSlice.open(engine, decoder, loadRows, tokens));
    const sums = new SliceSums(engine, known);
    for (const i of batches.keys()) {
      pass.signal?.throwIfAborted();
      const logits: Float32Array<ArrayBuffer>[] = [];
      for (const [side, [, spool]] of sides.entries()) logits.push(await slices[side].logitsOf(spool, i));
      await sums.add(i, { first: tokens[0], width: tokens.length, model: logits[0], ...(logits[1] && { reference: logits[1] }) });
    }
    await sums.done();
    for (const slice of slices) await slice.release();
  }
  return known;
}

/** The token after each position; −1 at a window's end. */
function targetsOf(batch: Batch): Int32Array {
  return Int32Array.from(batch.flatMap((sequence) => [...sequence.subarray(1), -1]));
}

function spoolFor({ batches, budget, scratch }: Pass, width: number): Spool {
  return new Spool(budget, 4 * width * Math.max(...batches.map(tokensOf)), scratch);
}
