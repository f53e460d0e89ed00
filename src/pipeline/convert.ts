import { InputError } from "../errors.js";
import { formatByName } from "../formats/formats.js";
import type { LinearReport, Report } from "../report/report.js";
import type { Source } from "../source/source.js";
import { VERSION } from "../version.js";
import type { RetryEvent } from "./events.js";
import { packerOf } from "./pack.js";
import { piecesOf } from "./pieces.js";
import type { PreparedConversion } from "./prepare-convert.js";
import { seal } from "./seal.js";
import { ShardWriter } from "./shard-writer.js";
import type { Sink } from "./sink.js";
import { finishedReport } from "./standing.js";
import { Stopwatch } from "./stopwatch.js";
import { StoredWriter } from "./stored-writer.js";

/** What converting tells while it works. */
export type ConvertEvent =
  /** Linears that were read to see whether the format holds them. */
  | { readonly type: "checked"; readonly format: string; readonly done: number; readonly count: number }
  | { readonly type: "written"; readonly format: string; readonly linear: string; readonly done: number; readonly count: number }
  | { readonly type: "shard"; readonly file: string; readonly size: number; readonly sha256: string }
  | RetryEvent
  | { readonly type: "done"; readonly report: Report; /** The folder held this very checkpoint already. */ readonly already: boolean };

export interface ConvertJob {
  readonly source: Source;
  readonly prepared: PreparedConversion;
  readonly sink: Sink;
  /** Throw away what the output holds. */
  readonly overwrite: boolean;
  readonly emit: (event: ConvertEvent) => void;
  readonly signal?: AbortSignal;
}

/** Writes a packed checkpoint in another format, linear by linear. Throws `InputError` where another checkpoint is in the way. */
export async function runConvert({ source, prepared, sink, overwrite, emit, signal }: ConvertJob): Promise<Report> {
  const { weights: { checkpoint, packed }, format, model, outputs, run } = prepared;
  const weightFiles = [...new Set([...checkpoint.tensors.values()].map(({ file }) => file))].sort();
  const converted = {
    format: prepared.report?.converted?.format ?? packed!.format, source: source.label,
    files: Object.fromEntries(await Promise.all(weightFiles.map(async (file) => [file, await source.fingerprint(file)] as const))),
  };
  const standing = await standingReport(sink, overwrite);
  if (standing !== undefined) {
    if (standing.converted === undefined || standing.run["format"] !== format || JSON.stringify(standing.converted.files) !== JSON.stringify(converted.files)) {
      throw new InputError(`${sink.label} holds another checkpoint; choose another folder, or use --overwrite`);
    }
    emit({ type: "done", report: standing, already: true });
    return standing;
  }
  await sink.reset();
  try {
    const watch = new Stopwatch();
    const writer = new ShardWriter(sink, prepared.shards);
    const storedWriter = new StoredWriter(writer, outputs.stored);
    const pack = packerOf(formatByName(format), model);
    const linears: LinearReport[] = [];
    const shards: { file: string; size: number; sha256: string }[] = [];
    const quantized = new Map(run.linears.flatMap((linear) => (linear.scheme === undefined ? [] : [[`${linear.name}.weight`, linear]])));
    const reported = new Map(prepared.report?.linears.map((linear) => [linear.name, linear]));
    for (const tensor of [...outputs.outside, ...outputs.layers.flat()]) {
      signal?.throwIfAborted();
      const plan = quantized.get(tensor);
      if (plan === undefined) {
        for (const read of piecesOf(checkpoint, tensor)) await storedWriter.take(tensor, await watch.time("read", read));
        continue;
      }
      const { name, outFeatures, inFeatures } = plan;
      const linear = await watch.time("read", () => prepared.linear(name));
      for (const part of await watch.time("pack", () => pack(name, linear))) await watch.time("write", () => writer.write(part));
      const { bits, groupSize } = linear.scheme;
      const known = reported.get(name)?.quantized ?? { method: "other" as const, scales: spreadOf(linear.scales), seconds: 0 };
      linears.push({ ...reported.get(name), name, outFeatures, inFeatures, quantized: { ...known, bits, groupSize } });
      emit({ type: "written", format, linear: name, done: linears.length, count: quantized.size });
    }
    for (const { name, outFeatures, inFeatures, scheme, why } of run.linears) if (scheme === undefined) linears.push({ name, outFeatures, inFeatures, note: why! });
    await watch.time("write", () => writer.sync());
    for (const shard of await watch.time("write", () => writer.finish())) {
      shards.push(shard);
      emit({ type: "shard", ...shard });
    }
    const { report } = prepared;
    const made = await seal({
      ...prepared, sink, from: checkpoint, config: model.config, format, run,
      report: (): Report => ({
        source: source.label, ...(source.hub && { hub: { repo: source.hub.repo, commit: source.hub.commit, bytesRead: source.hub.bytesRead() } }),
        engine: "", warnings: [], sourceBytes: [...checkpoint.tensors.values()].reduce((sum, { start, end }) => sum + end - start, 0),
        ...report,
        shardsmith: VERSION, converted, notices: [],
        run: { ...report?.run, format, bits: run.bits, "group size": run.groupSize, symmetric: run.symmetric },
        linears, bytes: prepared.shards.reduce((sum, { size }) => sum + size, 0), bitsPerWeight: outputs.bitsPerWeight,
        shards, seconds: watch.elapsed(), parts: watch.parts, resumedAtLayer: 0,
      }),
      emit: () => undefined,
    });
    emit({ type: "done", report: made, already: false });
    return made;
  } catch (error) {
    // Nothing of it could be taken up.
    await sink.complete();
    throw error;
  }
}

/** The report of what the output holds; undefined if nothing is in the way. Throws `InputError` for what Shardsmith has not finished, or not made. */
async function standingReport(sink: Sink, overwrite: boolean): Promise<Report | undefined> {
  if (overwrite) return undefined;
  if ((await sink.journal()).length > 0) throw new InputError(`${sink.label} holds a run that is not finished; finish it, choose another folder, or use --overwrite`);
  return finishedReport(sink);
}

function spreadOf(scales: Float32Array): NonNullable<LinearReport["quantized"]>["scales"] {
  const sorted = scales.slice().sort();
  return { min: sorted[0], median: sorted[sorted.length >> 1], max: sorted.at(-1)! };
}
