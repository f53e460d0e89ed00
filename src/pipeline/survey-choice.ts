import type { Engine } from "../engine/engine.js";
import { InputError } from "../errors.js";
import type { Checkpoint } from "../source/checkpoint.js";
import { KeptSource } from "../source/kept-source.js";
import type { Calibration } from "./calibrate.js";
import { chooseBits } from "./choose-bits.js";
import { megabytes, spaceOf } from "./disk-space.js";
import type { QuantizeEvent } from "./events.js";
import { heldTogether } from "./held-together.js";
import type { JournalEntry } from "./journal.js";
import type { Wish } from "./module-rules.js";
import type { QuantizeJob, Warnings } from "./quantize.js";
import { surveyed } from "./run-survey.js";
import type { ScratchFile } from "./sink.js";
import { surveyedBits } from "./survey-stage.js";
import { surveyModel } from "./survey.js";

/** Beside the journal: what a survey read of a Hub. */
const KEPT_FILE = "source.bin";

type KeptEntry = Extract<JournalEntry, { readonly kept: unknown }>;

interface Choice {
  readonly wishes: ReadonlyMap<string, Wish>;
  /** Through which the run is to read: it has what the survey read. */
  readonly checkpoint: Checkpoint;
}

/** What a survey chooses, or chose for the run that is taken up: another one would not be the same run. */
export async function choiceOf(
  job: QuantizeJob, targetBits: number, { set }: Calibration, engine: Engine, entries: readonly JournalEntry[], warnings: Warnings, emit: (event: QuantizeEvent) => void,
): Promise<Choice> {
  const { prepared, sink, signal } = job;
  const made = entries.find((entry) => "choice" in entry);
  if (made !== undefined) return { wishes: new Map(Object.entries(made.choice)), checkpoint: await readAgain(job, entries.find((entry) => "kept" in entry)) };
  const { settings, plan } = prepared;
  const decoder = prepared.decoder!;
  const file = await fileToKeep(job, set.tokens, warnings);
  const kept = file && new KeptSource(job.source, file);
  const checkpoint = kept === undefined ? prepared.checkpoint : prepared.checkpoint.through(kept);
  const survey = await surveyModel({
    engine, checkpoint, decoder, linears: plan.linears, bits: surveyedBits(heldTogether(settings).bits), sequences: set.sequences, memory: settings.memory, scratch: (name) => sink.scratch(name), signal,
    onLayer: (layer) => { emit(surveyed(layer, decoder.layers)); },
    onLost: ({ message }) => { warnings.add(`${message}; the survey goes on without it`); },
  });
  const { wishes } = chooseBits(prepared, survey, targetBits);
  await sink.log(JSON.stringify({ choice: Object.fromEntries(wishes) } satisfies JournalEntry));
  if (file !== undefined) await sink.log(JSON.stringify(await finished(file, kept!)));
  return { wishes, checkpoint };
}

/** A file for what the survey reads of a Hub, so that the run need not read it again. Without the space for it, both read; that is told. */
async function fileToKeep(job: QuantizeJob, tokens: number, warnings: Warnings): Promise<ScratchFile | undefined> {
  const { source, sink, prepared: { sourceBytes }, freeSpace } = job;
  if (source.hub === undefined) return undefined;
  const { checkpoint, hidden } = spaceOf(job, tokens);
  const free = await freeSpace?.();
  if (free === undefined || free >= checkpoint + hidden + sourceBytes) return sink.scratch(KEPT_FILE);
  warnings.add(`${sink.label} has ${megabytes(free)} free, too little to keep the weights that the survey reads (${megabytes(sourceBytes)}): they are read from the Hub twice`);
  return undefined;
}

/** Ends the keeping, and says what is kept, such that a run that is taken up can tell whether it still is. */
async function finished(file: ScratchFile, kept: KeptSource): Promise<KeptEntry> {
  const { size, ranges } = kept.keepNoMore();
  await file.sync();
  const sha256 = await file.hash(size);
  if (sha256 === undefined) throw new InputError(`${KEPT_FILE} is shorter than it was written: it changed under us`);
  return { kept: { size, sha256, ranges } };
}

/** The checkpoint of a run that is taken up: what the survey kept is read from its file, if it is as it was left. */
async function readAgain({ prepared: { checkpoint }, source, sink }: QuantizeJob, entry: KeptEntry | undefined): Promise<Checkpoint> {
  if (entry === undefined) return checkpoint;
  const { kept } = entry;
  const file = await sink.scratch(KEPT_FILE);
  return (await file.hash(kept.size)) === kept.sha256 ? checkpoint.through(new KeptSource(source, file, kept.ranges)) : checkpoint;
}
