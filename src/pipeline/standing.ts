import type { CalibrationSet } from "../calibration/calibration-set.js";
import { InputError } from "../errors.js";
import type { Report } from "../report/report.js";
import { VERSION } from "../version.js";
import { checkSameRun, parseJournal, type JournalEntry, type RunIdentity } from "./journal.js";
import type { PreparedRun } from "./prepare-run.js";
import type { Sink } from "./sink.js";

/**
 * The commit of a Hub's repo that an unfinished run reads, as its model or as a data set, by the first line of its journal; undefined where it reads
 * something else.
 */
export function commitOf(firstOfJournal: string, repo: string, as: "source" | "data sets" = "source"): string | undefined {
  const repos = runOf(firstOfJournal)?.[as];
  const prefix = `${repo}@`;
  return typeof repos === "string" ? repos.split(" ").find((one) => one.startsWith(prefix))?.slice(prefix.length) : undefined;
}

/** What computed a run, by the first line of its journal or by its report. */
export function engineOfRun(text: string): string | undefined {
  return runOf(text)?.["engine"] as string | undefined;
}

function runOf(line: string): RunIdentity | undefined {
  try {
    return (JSON.parse(line) as { readonly run?: RunIdentity }).run;
  } catch {
    // Whoever reads the journal to go on with it says that it is damaged.
    return undefined;
  }
}

/** The report's name in the output folder. A folder that has it holds a finished checkpoint. */
export const REPORT_FILE = "shardsmith.json";

/** See `RunIdentity`. */
export async function identityOf({ checkpoint, settings, plan }: PreparedRun, engine: string, calibration: CalibrationSet | undefined): Promise<RunIdentity> {
  const dataSets = calibration?.parts.flatMap(({ dataSet }) => (dataSet === undefined ? [] : [`${dataSet.repo}@${dataSet.commit}`])) ?? [];
  const { method, bits, format, symmetric, order, search, refine, awq, retarget, damp, shrink, seed, maxShardSize } = settings;
  const { hub } = checkpoint.source;
  const prints = await checkpoint.fingerprints();
  return {
    shardsmith: VERSION,
    ...(hub && { source: `${hub.repo}@${hub.commit}` }),
    method, bits,
    ...(settings.keep.length > 0 && { keep: settings.keep.join(" ") }),
    ...(settings.bitsFor.length > 0 && { "bits for": settings.bitsFor.map(({ pattern, bits: own }) => `${pattern}=${String(own)}`).join(" ") }),
    ...(settings.lmHead !== undefined && { lm_head: settings.lmHead }),
    ...(settings.embeddings !== undefined && { embeddings: settings.embeddings }),
    ...(settings.kQuant && { "k-quant": true }),
    ...(settings.targetBits !== undefined && { "target bits": settings.targetBits }),
    "group size": plan.groupSize, format, ...(settings.alsoIn.length > 0 && { "also in": settings.alsoIn.join(" ") }), symmetric, search, "max shard size": maxShardSize,
    ...(calibration && { order, refine, awq, retarget, damp, shrink, seed, samples: settings.samples, "sequence length": calibration.sequences[0].length, "calibration tokens": calibration.sha256 }),
    ...(dataSets.length > 0 && { "data sets": [...new Set(dataSets)].join(" ") }),
    engine,
    ...Object.fromEntries(Object.entries(prints).map(([file, print]) => [`source ${file}`, print])),
    "source config.json": JSON.stringify(checkpoint.config),
  };
}

/** What the output holds: this run's result, the journal of this run so far (empty: nothing yet), or something that is in the way. */
export async function whatStands(sink: Sink, identity: RunIdentity, overwrite: boolean): Promise<{ readonly report: Report } | { readonly entries: JournalEntry[] }> {
  const lines = await sink.journal();
  if (lines.length > 0) {
    try {
      const entries = parseJournal(lines, sink.label);
      const first = entries[0];
      if (!("run" in first)) throw new InputError(`${sink.label}: line 1 of the journal is damaged; use --overwrite to start anew`);
      checkSameRun(identity, first.run, sink.label);
      return { entries };
    } catch (error) {
      if (overwrite && error instanceof InputError) return { entries: [] };
      throw error;
    }
  }
  if (overwrite) return { entries: [] };
  const report = await finishedReport(sink);
  if (report === undefined) return { entries: [] };
  checkSameRun(identity, report.run, sink.label);
  return { report };
}

/** The report of a finished checkpoint in the output; undefined if nothing is in the way. Throws `InputError` for a checkpoint that Shardsmith did not write. */
export async function finishedReport(sink: Sink): Promise<Report | undefined> {
  const text = await sink.readFile(REPORT_FILE);
  if (text !== undefined) return parseReport(text, sink.label);
  if (await sink.has("config.json")) {
    throw new InputError(`${sink.label} holds a checkpoint that Shardsmith did not write; choose another folder, or use --overwrite`);
  }
  return undefined;
}

function parseReport(text: string, label: string): Report {
  try {
    return JSON.parse(text) as Report;
  } catch {
    throw new InputError(`${label}/${REPORT_FILE} is not JSON; use --overwrite to start anew`);
  }
}
