import type { CalibrationSet } from "../calibration/calibration-set.js";
import type { Engine } from "../engine/engine.js";
import { InputError } from "../errors.js";
import type { LinearPlan } from "../formats/format.js";
import { formatByName } from "../formats/formats.js";
import type { Stage } from "../model/decoder.js";
import { lmHeadStage } from "../model/head.js";
import type { Publisher } from "../publish/publisher.js";
import type { LinearReport, Report } from "../report/report.js";
import { fromFloat32, type FloatDtype } from "../safetensors/floats.js";
import type { Source } from "../source/source.js";
import { VERSION } from "../version.js";
import { batchesOf, embedBatch, tokensOf, type Batch } from "./batches.js";
import { calibrationOf, type Calibration, type CalibrationText } from "./calibrate.js";
import { checkSpace } from "./disk-space.js";
import type { QuantizeEvent } from "./events.js";
import type { JournalEntry, RunIdentity } from "./journal.js";
import { quantizeLayer } from "./layer.js";
import { streamsOf } from "./options.js";
import { Outside } from "./outside.js";
import { packerOf } from "./pack.js";
import { piecesOf } from "./pieces.js";
import { formatRun } from "./plan.js";
import { factsOf, QUANTIZER, withBits, type PreparedRun } from "./prepare-run.js";
import type { LayerRun } from "./passage.js";
import { Progress } from "./progress.js";
import { publishFinished } from "./push.js";
import { rangesOf, readingOf, type Reading } from "./reading.js";
import { seal } from "./seal.js";
import { ShardWriter } from "./shard-writer.js";
import type { ScratchFile, Sink } from "./sink.js";
import { MemoryBudget, Spool } from "./spool.js";
import { identityOf, whatStands } from "./standing.js";
import { Stopwatch } from "./stopwatch.js";
import { StoredWriter } from "./stored-writer.js";
import { choiceOf } from "./survey-choice.js";
import { Uploads } from "./uploads.js";
import { withEngine } from "./with-engine.js";
import { quantizeAndWrite, type LinearRun } from "./write-linear.js";

/** A run, with all that touches the outside handed in: nothing here knows of disks, networks or threads. */
export interface QuantizeJob {
  readonly source: Source;
  readonly sink: Sink;
  /** Called once the options and the source are known to be good. */
  readonly engine: () => Promise<Engine>;
  /** Made of the source by `prepareRun`, before the sink is opened. */
  readonly prepared: PreparedRun;
  /** Not asked for by `rtn` without a survey. */
  readonly calibration: CalibrationText;
  /** Throw away what another run left in the output. */
  readonly overwrite?: boolean;
  readonly onEvent?: (event: QuantizeEvent) => void;
  readonly signal?: AbortSignal;
  /** Where the checkpoint is published as well: shards go there while later layers compute, and all else at the end. */
  readonly publisher?: Publisher;
  /** Whether shards stay in the sink once they are where they are published. Default true. */
  readonly keepShards?: boolean;
  /** Bytes that may still be written where the output goes. */
  readonly freeSpace?: () => Promise<number>;
}

/**
 * Quantizes a checkpoint: plans, calibrates, and goes through the layers one by one; takes up an interrupted run where it stood.
 * Throws `InputError` for what a person can mend, and the signal's reason when aborted; what was finished by then is kept.
 */
export async function runQuantize(job: QuantizeJob): Promise<Report> {
  const { source, sink, signal, prepared } = job;
  const emit = job.onEvent ?? (() => undefined);
  const watch = new Stopwatch();
  const { checkpoint, decoder, settings } = prepared;
  const tellPlan = ({ plan, shards, sourceBytes, bytes }: PreparedRun): void => { emit({
    type: "plan", source: source.label, ...(source.hub && { commit: source.hub.commit }), output: sink.label, method: settings.method, format: settings.format, bits: settings.bits, groupSize: plan.groupSize, mix: plan.mix,
    layers: decoder?.layers ?? plan.layers.length, linears: plan.linears.length, quantized: plan.linears.filter(({ scheme }) => scheme !== undefined).length,
    sourceBytes, bytes, shards: shards.length, notices: plan.notices,
  }); };
  // With a survey to come there is no plan yet.
  if (settings.targetBits === undefined) tellPlan(prepared);

  const calibration = settings.method === "rtn" && settings.targetBits === undefined ? undefined : await calibrationOf(job.calibration, checkpoint, decoder!, settings);
  const warnings: Warnings = {
    all: [],
    add(message) {
      warnings.all.push(message);
      emit({ type: "warning", message });
    },
  };
  if (calibration !== undefined) {
    const { set, sequenceLength, why } = calibration;
    emit({ type: "calibration", ...told(set), sequenceLength, seed: settings.seed, ...(why !== undefined && { why }) });
    for (const message of calibration.warnings) warnings.add(message);
  }
  signal?.throwIfAborted();

  return withEngine(job, async (engine) => {
    const identity = await identityOf(prepared, engine.description, calibration?.set);
    const standing = await whatStands(sink, identity, job.overwrite === true);
    if ("report" in standing) {
      const { publisher } = job;
      if (publisher !== undefined) await publishFinished(sink, () => Promise.resolve(publisher), emit);
      emit({ type: "done", report: standing.report, already: true });
      return standing.report;
    }
    if (standing.entries.length === 0) {
      await checkSpace(job, calibration?.set.tokens ?? 0);
      await sink.reset();
      await sink.log(JSON.stringify({ run: identity } satisfies JournalEntry));
    }
    let chosen = prepared;
    if (settings.targetBits !== undefined) {
      const survey = await choiceOf(job, settings.targetBits, calibration!, engine, standing.entries, warnings, emit);
      chosen = await withBits({ ...prepared, checkpoint: survey.checkpoint }, survey.wishes);
      const kept = chosen.plan.linears.filter(({ name, scheme }) => scheme === undefined && prepared.plan.linears.find((linear) => linear.name === name)?.scheme !== undefined);
      emit({ type: "choice", targetBits: settings.targetBits, mix: chosen.plan.mix, kept: kept.length });
      tellPlan(chosen);
    }
    const run = new Run(job, chosen, settings.method === "rtn" ? undefined : calibration, engine, watch, identity, warnings, emit);
    const report = await run.finish(standing.entries);
    emit({ type: "done", report, already: false });
    return report;
  });
}

/** What is to be known of a run that went less well than it should: told at once, and in its report. */
export interface Warnings {
  readonly all: string[];
  readonly add: (message: string) => void;
}

function told({ origin, documents, sequences, tokens, parts }: CalibrationSet): Required<NonNullable<Report["calibration"]>> {
  return { origin, documents, sequences: sequences.length, tokens, parts };
}

/** One run from its journal to its report. */
class Run {
  private readonly writer: ShardWriter;
  private readonly storedWriter: StoredWriter;
  private readonly shards: ShardReport[] = [];
  private readonly linears: LinearReport[] = [];
  private readonly plans: ReadonlyMap<string, LinearPlan>;
  private readonly reading: Reading;
  private readonly outside: Outside;
  private readonly budget: MemoryBudget;
  private readonly batches: readonly Batch[];
  private readonly progress: Progress;
  private readonly streams: readonly number[];
  private readonly uploads: Uploads | undefined;
  /** The journal's next line, while the next layer is under way. */
  private pending: Promise<void> = Promise.resolve();

  constructor(
    private readonly job: QuantizeJob,
    private readonly prepared: PreparedRun,
    private readonly calibration: Calibration | undefined,
    private readonly engine: Engine,
    private readonly watch: Stopwatch,
    private readonly identity: RunIdentity,
    private readonly warnings: Warnings,
    private readonly emit: (event: QuantizeEvent) => void,
  ) {
    this.writer = new ShardWriter(job.sink, prepared.shards);
    this.storedWriter = new StoredWriter(this.writer, prepared.plan.stored);
    this.plans = new Map(prepared.plan.linears.map((linear) => [linear.name, linear]));
    const { checkpoint, plan, decoder, settings: { memory } } = prepared;
    this.batches = batchesOf(calibration?.set.sequences ?? []);
    this.outside = new Outside(checkpoint, plan.outside, decoder, this.batches.flatMap((batch) => batch.flatMap((sequence) => [...sequence])));
    this.reading = readingOf(checkpoint, [...this.outside.pieces.map((piece) => [piece]), ...plan.layers.map((names) => rangesOf(checkpoint, names))], memory);
    this.budget = new MemoryBudget(memory - this.reading.memory);
    this.streams = Array.from({ length: streamsOf(prepared.settings) }, (_, stream) => stream);
    this.uploads = job.publisher && new Uploads(job.sink, job.publisher, job.keepShards !== false, emit);
    this.progress = new Progress(prepared.plan.layers.length, watch, emit, job.source.hub?.bytesRead);
  }

  async finish(entries: readonly JournalEntry[]): Promise<Report> {
    const { next, hidden } = await this.takeUp(entries);
    const resumed = Math.max(0, next);
    if (entries.length > 0) this.emit({ type: "resume", layer: resumed });
    this.progress.begin(resumed);
    try {
      if (next < 0) {
        await this.outside.copy(this.reading, this.storedWriter, this.watch, this.job.signal);
        await this.commit({ layer: -1, linears: [] });
      }
      if (this.calibration === undefined) await this.round(resumed);
      else await this.calibrate(resumed, hidden);
      await this.pending;
    } catch (error) {
      // What was finished before the trouble still goes into the journal.
      await this.pending.catch(() => undefined);
      await this.uploads?.stop();
      throw error;
    } finally {
      this.reading.close();
    }
    return this.seal(resumed);
  }

  /** Reads the journal: which layer comes next (−1: not even what lies outside the layers is written), and the hidden states there. */
  private async takeUp(entries: readonly JournalEntry[]): Promise<{ next: number; hidden: readonly Spool[] | undefined }> {
    const { sink, publisher } = this.job;
    const { plan } = this.prepared;
    const pushed = new Map(entries.flatMap((entry) => ("pushed" in entry ? [[entry.pushed, entry.to]] : [])));
    let last: Extract<JournalEntry, { layer: number }> | undefined;
    for (const entry of entries) {
      if ("shard" in entry) {
        const to = pushed.get(entry.shard);
        if (to !== undefined && !(await sink.has(entry.shard))) {
          if (to !== publisher?.repo) throw new InputError(`${sink.label}: ${entry.shard} was sent to ${to} and deleted here; go on with --push ${to}, or use --overwrite to start anew`);
        } else if ((await sink.hash(entry.shard, entry.size)) !== entry.sha256) {
          throw new InputError(`${sink.label}/${entry.shard} is not what was written there: it changed since; use --overwrite to start anew`);
        }
        this.writer.finished(entry.shard);
        this.shards.push({ file: entry.shard, size: entry.size, sha256: entry.sha256 });
        await this.uploads?.add({ name: entry.shard, size: entry.size, sha256: entry.sha256 });
      } else if ("layer" in entry) {
        this.writer.written(this.outputsOf(entry.layer === -1 ? plan.outside : plan.layers[entry.layer]));
        this.linears.push(...entry.linears);
        for (const { name, note, quantized } of entry.linears) if (note !== undefined && quantized) this.warnings.all.push(`${name}: ${note}`);
        last = entry;
      }
    }
    if (last === undefined) return { next: -1, hidden: undefined };
    await this.finishShards();
    if (last.hidden === undefined) return { next: last.layer + 1, hidden: undefined };
    const { layer } = last;
    for (const { file, size, sha256 } of last.hidden) {
      if ((await (await sink.scratch(file)).hash(size)) !== sha256) {
        throw new InputError(`${sink.label}: the hidden states after layer ${String(layer)} are damaged; use --overwrite to start anew`);
      }
    }
    const hidden = this.hiddenSpools(layer + 1);
    const { hiddenSize: width } = this.prepared.decoder!;
    for (const spool of hidden) this.batches.forEach((batch, i) => spool.adopt(i, new Map([["h", { batch: batch.length, tokens: batch[0].length, width }]])));
    return { next: layer + 1, hidden };
  }

  /** Round to nearest: every linear by itself. */
  private async round(from: number): Promise<void> {
    for (let layer = from; layer < this.prepared.plan.layers.length; layer += 1) await this.roundLayer(layer);
  }

  private async roundLayer(layer: number): Promise<void> {
    this.reading.enter(this.outside.pieces.length + layer);
    const reports: LinearReport[] = [];
    const run = this.linearRun(layer, reports);
    for (const name of this.prepared.plan.layers[layer]) {
      this.job.signal?.throwIfAborted();
      const linear = this.linearOf(name);
      if (linear !== undefined) await quantizeAndWrite(run, linear);
      if (linear?.scheme === undefined) await this.copy(name);
    }
    await this.commit({ layer, linears: reports });
    this.progress.layerDone(layer);
  }

  private async calibrate(from: number, resumed: readonly Spool[] | undefined): Promise<void> {
    const { plan, decoder } = this.prepared;
    let hidden = resumed ?? (from === 0 ? await this.embedAll() : undefined);
    // An embedding that is quantized comes last, and has no Hessian.
    const calibrated = plan.layers.filter(([name]) => name !== decoder!.embedding.tensor).length;
    for (let layer = from; layer < calibrated; layer += 1) {
      this.reading.enter(this.outside.pieces.length + layer);
      // Behind the decoder's layers there is only lm_head.
      const stages = layer < decoder!.layers ? decoder!.stages(layer, this.calibration!.sequenceLength) : [lmHeadStage(decoder!)];
      const last = layer === calibrated - 1;
      const into = last ? undefined : this.hiddenSpools(layer + 1);
      const reports: LinearReport[] = [];
      const norms = await quantizeLayer(this.layerRun(layer, stages, reports), stages, hidden!, into, layer === 0);
      for (const name of plan.layers[layer]) {
        const values = norms.get(name);
        if (values !== undefined) await this.replace(name, values);
        else if (this.linearOf(name)?.scheme === undefined) await this.copy(name);
      }
      await this.commit({ layer, linears: reports }, last ? [] : this.streams.map((stream) => hiddenFile(layer + 1, stream)));
      this.progress.layerDone(layer);
      hidden = into;
    }
    for (let layer = Math.max(from, calibrated); layer < plan.layers.length; layer += 1) await this.roundLayer(layer);
  }

  /** The plan for the linear whose weight this tensor is. */
  private linearOf(tensor: string): LinearPlan | undefined {
    return tensor.endsWith(".weight") ? this.plans.get(tensor.slice(0, -".weight".length)) : undefined;
  }

  private linearRun(layer: number, reports: LinearReport[]): LinearRun {
    return {
      engine: this.engine, checkpoint: this.reading.checkpoint, settings: this.prepared.settings,
      pack: packerOf(formatByName(this.prepared.settings.format), factsOf(this.prepared)), writer: this.writer, watch: this.watch, signal: this.job.signal,
      onLinear: (report) => {
        reports.push(report);
        this.linears.push(report);
        this.emit({ type: "linear", layer, report });
      },
      onWarning: this.warnings.add,
    };
  }

  private layerRun(layer: number, stages: readonly Stage[], reports: LinearReport[]): LayerRun {
    const total = this.calibration!.set.tokens;
    let tokens = 0;
    return {
      ...this.linearRun(layer, reports),
      plans: this.plans,
      batches: this.batches.length,
      spool: (stage, stream, width) => new Spool(this.budget, this.stride(width), () => this.job.sink.scratch(`spill-${stage.replaceAll(" ", "-")}-${String(stream)}.bin`)),
      onBatch: (stage, batch) => {
        tokens = (batch === 0 ? 0 : tokens) + tokensOf(this.batches[batch]);
        this.progress.batchDone(layer, stages.indexOf(stage), stages.length, stage.name, tokens, total);
      },
    };
  }

  private async embedAll(): Promise<readonly Spool[]> {
    const { decoder } = this.prepared;
    const embedding = await this.watch.time("read", () => this.outside.embedding());
    const spools = this.streams.map((stream) =>
      new Spool(this.budget, this.stride(decoder!.hiddenSize), () => this.job.sink.scratch(`spill-embedding-${String(stream)}.bin`)));
    for (const [i, batch] of this.batches.entries()) {
      const h = await embedBatch(embedding, decoder!, batch);
      for (const spool of spools) await spool.put(i, { h: { ...h, data: h.data.slice() } });
    }
    return spools;
  }

  /** The hidden states that go into a layer, a spool a stream: in files whatever happens, since a run is taken up from there. */
  private hiddenSpools(layer: number): readonly Spool[] {
    return this.streams.map((stream) => {
      const open = async (): Promise<ScratchFile> => {
        // The file holds the states of two layers before, from which a run is taken up until the journal knows of the layer in between.
        await this.pending;
        return this.job.sink.scratch(hiddenFile(layer, stream));
      };
      return new Spool(this.budget, this.stride(this.prepared.decoder!.hiddenSize), open, true);
    });
  }

  /** Bytes of the largest batch, for so many values a token. */
  private stride(width: number): number {
    return 4 * width * Math.max(...this.batches.map(tokensOf));
  }

  private outputsOf(names: readonly string[]): string[] {
    return names.flatMap((name) => this.prepared.plan.outputsOf.get(name)!);
  }

  /** Writes other values in a tensor's place. */
  private async replace(name: string, values: Float32Array): Promise<void> {
    const { dtype } = this.prepared.checkpoint.tensors.get(name)!;
    await this.watch.time("write", () => this.storedWriter.take(name, fromFloat32(values, dtype as FloatDtype)));
  }

  /** Copies a tensor that stays as it is, in pieces. */
  private async copy(name: string): Promise<void> {
    for (const read of piecesOf(this.reading.checkpoint, name)) {
      const piece = await this.watch.time("read", read);
      await this.watch.time("write", () => this.storedWriter.take(name, piece));
    }
  }

  /** Puts a finished layer into the journal, once it would survive a power cut, while the next layer is under way. */
  private async commit(entry: { readonly layer: number; readonly linears: readonly LinearReport[] }, files: readonly string[] = []): Promise<void> {
    await this.pending;
    await this.checkSource();
    this.pending = this.watch.time("write", async () => {
      const { sink } = this.job;
      await this.writer.sync();
      const hidden = [];
      for (const file of files) {
        const scratch = await sink.scratch(file);
        await scratch.sync();
        const size = this.hiddenBytes();
        const sha256 = await scratch.hash(size);
        if (sha256 === undefined) throw new InputError(`${sink.label}: ${file} is shorter than it was written: it changed under us`);
        hidden.push({ file, size, sha256 });
      }
      await sink.log(JSON.stringify({ ...entry, ...(hidden.length > 0 && { hidden }) } satisfies JournalEntry));
      await this.finishShards();
    });
    // An error is thrown by whoever awaits it next; until then it is not unheard.
    this.pending.catch(() => undefined);
  }

  private hiddenBytes(): number {
    const { hiddenSize } = this.prepared.decoder!;
    const last = this.batches.length - 1;
    return last * this.stride(hiddenSize) + 4 * hiddenSize * tokensOf(this.batches[last]);
  }

  private async finishShards(): Promise<void> {
    for (const { file, size, sha256 } of await this.writer.finish()) {
      await this.job.sink.log(JSON.stringify({ shard: file, size, sha256 } satisfies JournalEntry));
      this.shards.push({ file, size, sha256 });
      this.emit({ type: "shard", file, size, sha256 });
      await this.uploads?.add({ name: file, size, sha256 });
    }
  }

  /** A source that changes while it is read would give a checkpoint that is neither the old nor the new model. */
  private async checkSource(): Promise<void> {
    const { source } = this.job;
    for (const file of new Set([...this.prepared.checkpoint.tensors.values()].map((tensor) => tensor.file))) {
      const now = await source.fingerprint(file);
      if (!String(this.identity[`source ${file}`]).startsWith(now)) {
        throw new InputError(`${source.label}/${file} changed while it was read. Use --overwrite to start anew with what it is now`);
      }
    }
  }

  /** Writes everything that makes the output loadable. */
  private async seal(resumed: number): Promise<Report> {
    const { sink, source, publisher } = this.job;
    const { checkpoint, plan, settings, decoder, sourceBytes, bytes } = this.prepared;
    const set = this.calibration?.set;
    this.shards.sort((a, b) => (a.file < b.file ? -1 : 1));
    const deviceMemory = await this.engine.deviceMemory();
    return seal({
      ...this.prepared, sink, from: checkpoint, config: checkpoint.config, format: settings.format, run: formatRun(plan, settings, decoder, QUANTIZER),
      report: () => ({
        shardsmith: VERSION, source: source.label, ...(source.hub && { hub: { repo: source.hub.repo, commit: source.hub.commit, bytesRead: source.hub.bytesRead() } }), engine: this.engine.description, ...(deviceMemory > 0 && { deviceMemory }), run: this.identity,
        ...(set && { calibration: told(set) }),
        linears: this.linears, notices: plan.notices, warnings: this.warnings.all,
        sourceBytes, bytes, bitsPerWeight: plan.bitsPerWeight,
        shards: this.shards, seconds: this.watch.elapsed(), parts: this.watch.parts, resumedAtLayer: resumed,
      }),
      ...(publisher && { publish: { publisher, sent: async () => this.uploads?.settled() } }),
      emit: this.emit,
    });
  }
}

type ShardReport = Report["shards"][number];

/** Two files in turn: writing over one costs much less than filling a new one. */
function hiddenFile(layer: number, stream: number): string {
  return `hidden-${layer % 2 === 0 ? "even" : "odd"}-${String(stream)}.bin`;
}
