import { readFile, realpath, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { DEVICES, type Device } from "./engine/device.js";
import type { Engine } from "./engine/engine.js";
import type { Adapter } from "./engine/gpu/adapter.js";
import { chooseDevice, cpuSpeed, gpuSpeed } from "./engine/gpu/choose-device.js";
import { createGpuEngine, describesGpu } from "./engine/gpu/create-gpu-engine.js";
import type { KernelSpeed } from "./engine/gpu/kernel-runs.js";
import { listAdapters } from "./engine/gpu/list-adapters.js";
import { createOnnxEngine } from "./engine/onnx/create-onnx-engine.js";
import { InputError } from "./errors.js";
import type { SteadyOptions } from "./hub/attempts.js";
import { FORMATS } from "./formats/formats.js";
import { hubOfEnvironment } from "./hub/environment.js";
import type { CalibrationText } from "./pipeline/calibrate.js";
import { calibrationTexts, evaluationText, type TextPlaces } from "./pipeline/calibration-text.js";
import { cardBeside, EVALUATION_FILE, reportBeside, savedEvaluation } from "./pipeline/card.js";
import { runConvert, type ConvertEvent } from "./pipeline/convert.js";
import { measuredSpeed, secondsOf, type Speed } from "./pipeline/estimate.js";
import type { QuantizeEvent, RetryEvent } from "./pipeline/events.js";
import { runEvaluate, type EvaluateSettings, type Evaluation, type EvaluateEvent } from "./pipeline/evaluate.js";
import { finishedFolder } from "./pipeline/finished-folder.js";
import { firstOfJournal, freeSpace, openFolderSink } from "./pipeline/folder-sink.js";
import { inspectCheckpoint, type Inspection } from "./pipeline/inspect.js";
import type { QuantizeSettings } from "./pipeline/options.js";
import { openWeights } from "./pipeline/open-weights.js";
import { overviewOf, type Overview } from "./pipeline/overview.js";
import type { Plan } from "./pipeline/plan.js";
import { prepareConvert } from "./pipeline/prepare-convert.js";
import { prepareRun, type PreparedRun } from "./pipeline/prepare-run.js";
import { publishFinished, uploadTeller, type PushEvent } from "./pipeline/push.js";
import { openSpillFile } from "./pipeline/spill-file.js";
import { runQuantize } from "./pipeline/quantize.js";
import { commitOf, engineOfRun, REPORT_FILE } from "./pipeline/standing.js";
import { runSurvey, type SurveyEvent, type SurveyResult } from "./pipeline/run-survey.js";
import { CARD_FILE } from "./publish/card.js";
import { openHubPublisher, type PublishTo } from "./publish/hub-publisher.js";
import type { Published, Publisher } from "./publish/publisher.js";
import type { Report } from "./report/report.js";
import { openHubDataSet } from "./source/data-set-hub.js";
import { isThere, openFolder } from "./source/folder.js";
import { hubCacheOfEnvironment } from "./source/hub-cache.js";
import { openSource } from "./source/open-source.js";
import type { Source } from "./source/source.js";
import { builtinCalibrationText, namedDataSets, readTextFiles } from "./source/text-files.js";

export { InputError } from "./errors.js";
export { VERSION } from "./version.js";
export type { Adapter, Device, Overview, Published, PublishTo, PushEvent, Speed, SurveyEvent, SurveyResult };
export type { SurveyedGroup, SurveyedLinear } from "./pipeline/survey.js";
export type { ConvertEvent, EvaluateEvent, EvaluateSettings, Evaluation, Inspection, Plan, QuantizeEvent, QuantizeSettings, Report, RetryEvent };
export type { LinearReport, PartSeconds } from "./report/report.js";
export type { Bits, Order } from "./quantize/scheme.js";
export type { GroupSize } from "./pipeline/options.js";
export type { Method } from "./quantize/slab.js";
export type { BitsMix, LinearPlan } from "./formats/format.js";

export interface QuantizeOptions extends QuantizeSettings {
  /**
   * Folder of the checkpoint, in the Hub's layout: config.json, safetensors, tokenizer.json; or `org/name`, `org/name@revision`, or the URL of
   * a repo on the Hub, whose weights are read as they are needed. Without a revision, a run that is taken up reads the commit that it began with.
   */
  readonly source: string;
  /** Folder that the quantized checkpoint goes to; it is made if needed. Of several formats (`alsoIn`) each has a subfolder of its name. */
  readonly output: string;
  /**
   * `builtin`, the text that comes with Shardsmith, which is the default for folders; the name of a set in calibration-data/data-sets.json, of which `c4`
   * is the default for sources on a Hub; a text, a JSONL file, or a folder of them; a data set on the Hub, `org/dataset[:config][/split]`;
   * or several of these, joined by commas.
   */
  readonly calibration?: string;
  /** Replace what another run, or another program, left in `output`. Default false. */
  readonly overwrite?: boolean;
  /** Publish it on the Hub as well: shards go up as they are finished, and one commit at the end shows all of it. */
  readonly push?: PublishTo;
  /** Whether shards stay in `output` once the Hub has confirmed their SHA-256. Default true. */
  readonly keepShards?: boolean;
  /** Threads that compute. Default: as many as there are cores. */
  readonly threads?: number;
  /** What gathers Hessians. `auto` (default): a GPU where there is a real one that is measured to be faster; a run that is taken up stays where it was. */
  readonly device?: Device;
  /** Whether the CPU goes on where a GPU fails, which is told. Default true. */
  readonly fallback?: boolean;
  /** Called for everything there is to tell, in order. */
  readonly onEvent?: (event: QuantizeEvent) => void;
  /** Stops the run; what is finished is kept, and the same call goes on from there. */
  readonly signal?: AbortSignal;
}

/**
 * Quantizes a checkpoint, layer by layer, in the memory of one layer. If `output` holds an interrupted run of the same options, it goes on
 * where that stood, and the result is the same to the byte.
 * Throws `InputError` for everything that its caller can mend, before any work is lost.
 */
export async function quantize(options: QuantizeOptions): Promise<Report> {
  const { source: path, output, calibration, overwrite, push: to, keepShards, threads, device = "auto", fallback, onEvent, signal, ...settings } = options;
  const start = engineOf(threads);
  checkDevice(device);
  if (keepShards === false && to === undefined) throw new InputError("shards can be given up only where they are pushed to the Hub; name a repo to push to");
  if (output === "") throw new InputError("output is empty; name a folder for the quantized checkpoint");
  const { format = FORMATS[0].name, alsoIn = [] } = settings;
  if (to !== undefined && alsoIn.length > 0) throw new InputError("one format can be pushed while it is made; quantize to a folder, and push the subfolder of each format to a repo of its own");
  const folder = alsoIn.length > 0 ? join(output, format) : output;
  const begun = overwrite === true ? undefined : await firstOfJournal(folder);
  const patience = patienceOf(signal, onEvent);
  let report: Report;
  const source = await openSource(path, {
    ...patience,
    // A repo may have moved on since; with `overwrite` what it is now is asked for.
    ...(begun !== undefined && { commitOf: (repo) => commitOf(begun, repo) }),
  });
  try {
    // Refuses what cannot work before the output folder is touched.
    const prepared = await prepareRun(source, settings);
    const others = await Promise.all(alsoIn.map((other) => prepareRun(source, { ...settings, format: other, alsoIn: [format, ...alsoIn.filter((name) => name !== other)] })));
    const sink = await openFolderSink(folder);
    try {
      await refuseSource(source, path, folder);
      if (to !== undefined && source.hub?.repo === to.repo && to.revision === undefined && to.createPr !== true) {
        throw new InputError(`${to.repo} is the source itself, and would be replaced; push to another repo, or name a branch by --revision`);
      }
      const publisher = to && (await publisherOf(to, onEvent, patience));
      const engine = async (): Promise<Engine> => {
        if (!gathersHessians(prepared)) return start();
        const earlier = device !== "auto" || overwrite === true ? undefined : (begun ?? (await readerOf(folder)(REPORT_FILE)));
        const chosen = await chooseDevice(await start(), earlier === undefined ? device : describesGpu(engineOfRun(earlier) ?? "") ? "gpu" : "cpu", fallback === false);
        onEvent?.({ type: "device", engine: chosen.engine.description, why: chosen.why });
        return chosen.engine;
      };
      report = await runQuantize({
        source, sink, prepared,
        engine,
        ...(publisher && { publisher }),
        ...(keepShards !== undefined && { keepShards }),
        calibration: calibrationText(calibration, source, patience, begun),
        freeSpace: async () => (await freeSpace(folder)) - others.reduce((sum, { bytes }) => sum + bytes, 0),
        ...(overwrite !== undefined && { overwrite }),
        ...(onEvent && { onEvent }),
        ...(signal && { signal }),
      });
    } finally {
      await sink.close();
    }
  } finally {
    await source.close();
  }
  const emit = (event: ConvertEvent): void => {
    if (event.type === "done") onEvent?.({ type: "converted", format: String(event.report.run["format"]), output: join(output, String(event.report.run["format"])), bytes: event.report.bytes, already: event.already });
  };
  if (alsoIn.length > 0) await convertInto(folder, new Map(alsoIn.map((other) => [other, join(output, other)])), { ...settings, overwrite, onEvent: emit, signal });
  return report;
}

export interface ConvertOptions {
  /** A checkpoint that is quantized in one of our formats: its folder, or as for `quantize` a repo on the Hub. */
  readonly source: string;
  /** Checkpoint formats to write. */
  readonly formats: readonly string[];
  /** Folder that it goes to; of several formats each has a subfolder of its name. */
  readonly output: string;
  /** Largest shard in bytes. Default 5 GB. */
  readonly maxShardSize?: number;
  /** Replace what the output holds. Default false. */
  readonly overwrite?: boolean;
  readonly onEvent?: (event: ConvertEvent) => void;
  readonly signal?: AbortSignal;
}

/**
 * Writes a quantized checkpoint in other formats, without calibration: exactly, value by value, and in the memory of one linear. Returns a report a format.
 * Throws `InputError` where a format cannot hold it, naming the linear and the reason, before anything is written in any of them.
 */
export async function convert({ source, formats, output, ...options }: ConvertOptions): Promise<Report[]> {
  if (output === "") throw new InputError("output is empty; name a folder for the converted checkpoint");
  return convertInto(source, new Map(formats.map((format) => [format, formats.length === 1 ? output : join(output, format)])), options);
}

/** @param folders for each format, by its name */
async function convertInto(
  path: string, folders: ReadonlyMap<string, string>,
  { maxShardSize, overwrite = false, onEvent, signal }: { readonly [Key in "maxShardSize" | "overwrite" | "onEvent" | "signal"]?: ConvertOptions[Key] | undefined },
): Promise<Report[]> {
  const emit = onEvent ?? (() => undefined);
  const source = await openSource(path, patienceOf(signal, onEvent));
  try {
    const prepared = [];
    for (const format of folders.keys()) {
      prepared.push(await prepareConvert(source, { format, ...(maxShardSize !== undefined && { maxShardSize }) }, (done, count) => { emit({ type: "checked", format, done, count }); }, signal));
    }
    const reports = [];
    for (const one of prepared) {
      const folder = folders.get(one.format)!;
      const sink = await openFolderSink(folder);
      try {
        await refuseSource(source, path, folder);
        reports.push(await runConvert({ source, prepared: one, sink, overwrite, emit, ...(signal && { signal }) }));
      } finally {
        await sink.close();
      }
    }
    return reports;
  } finally {
    await source.close();
  }
}

async function refuseSource(source: Source, path: string, output: string): Promise<void> {
  if (source.hub === undefined && (await realpath(path)) === (await realpath(output))) throw new InputError(`${output} is the source itself; choose another output folder`);
}

export interface PushOptions extends PublishTo {
  /** Folder of a finished checkpoint. */
  readonly folder: string;
  readonly onEvent?: (event: PushEvent) => void;
  /** Ends it at once; what was sent need not be sent again. */
  readonly signal?: AbortSignal;
}

/**
 * Publishes a finished checkpoint's folder on the Hub, in one commit; what the Hub has is not sent. `url` is the page to open. Throws
 * `InputError` for a folder that holds no whole checkpoint, or another than its report says.
 */
export async function push(options: PushOptions): Promise<Published> {
  const { folder, onEvent, signal, ...to } = options;
  const emit = onEvent ?? (() => undefined);
  if ((await firstOfJournal(folder)) !== undefined) throw new InputError(`${folder} holds a run that is not finished; finish it first, by the command that began it`);
  const source = await openFolder(folder);
  try {
    // It refuses whatever is not whole.
    await openWeights(source);
  } finally {
    await source.close();
  }
  return publishFinished(finishedFolder(folder), () => publisherOf(to, emit, patienceOf(signal, emit)), emit);
}

async function publisherOf(to: PublishTo, onEvent: ((event: PushEvent) => void) | undefined, patience: SteadyOptions): Promise<Publisher> {
  if (hubCacheOfEnvironment().offline) throw new InputError(`${to.repo}: HF_HUB_OFFLINE is set, so that nothing can be published; unset it`);
  return openHubPublisher(await hubOfEnvironment(), to, { ...patience, ...(onEvent && { onBytes: uploadTeller(onEvent) }) });
}

/** How requests to a Hub end, and who is told that one is made again. */
function patienceOf(signal: AbortSignal | undefined, onEvent: ((event: RetryEvent) => void) | undefined): SteadyOptions {
  return { ...(signal && { signal }), ...(onEvent && { onRetry: (retry) => { onEvent({ type: "retry", ...retry }); } }) };
}

export interface PlanOptions extends QuantizeSettings, Pick<QuantizeOptions, "source" | "threads" | "device" | "signal"> {
  /** Time a matrix product on this machine, for a quarter of a second, on the device that would be taken, and say how long the run will take. Default false. */
  readonly measure?: boolean;
  readonly onEvent?: (event: RetryEvent) => void;
}

export interface PlannedRun {
  readonly plan: Plan;
  /** Bytes of the tensors before, and of the shards after. */
  readonly sourceBytes: number;
  readonly bytes: number;
  readonly shards: readonly { readonly file: string; readonly size: number }[];
  /** Sizes, memory, disk, and which programs load what comes out. */
  readonly overview: Overview;
  /** With `measure`: seconds by what is done in them, reading and writing not counted; and what that stands on. */
  readonly estimate?: ReturnType<typeof secondsOf> & { readonly speed: Speed; readonly engine: string; /** What would gather Hessians, and why; absent where there are none. */ readonly device?: string };
}

/** What `quantize` would do, from headers alone: which linears, at what size, and what stays as it is and why. */
export async function planQuantize(options: PlanOptions): Promise<PlannedRun> {
  const { source: path, measure, threads, device, onEvent, signal, ...settings } = options;
  const engine = engineOf(threads);
  checkDevice(device);
  const source = await openSource(path, patienceOf(signal, onEvent));
  try {
    const prepared = await prepareRun(source, settings);
    const { plan, sourceBytes, bytes, shards } = prepared;
    const estimate = measure === true ? await estimateOf(engine, prepared, device, threads) : undefined;
    return {
      plan, sourceBytes, bytes, shards: shards.map(({ file, size }) => ({ file, size })), overview: await overviewOf(prepared, threads ?? availableParallelism()),
      ...(estimate && { estimate }),
    };
  } finally {
    await source.close();
  }
}

async function estimateOf(start: () => Promise<Engine>, prepared: PreparedRun, device: Device = "auto", threads = availableParallelism()): Promise<NonNullable<PlannedRun["estimate"]>> {
  const calibrated = gathersHessians(prepared);
  const { engine, why, hessians } = await chooseDevice(await start(), calibrated ? device : "cpu", false);
  try {
    const product = await measuredSpeed(engine, threads, prepared.plan.linears.find(({ scheme }) => scheme !== undefined)!);
    const speed = { ...product, ...(hessians && { hessian: await hessians() }) };
    return { ...secondsOf(prepared, speed), speed, engine: engine.description, ...(calibrated && { device: why }) };
  } finally {
    await engine.close();
  }
}

export interface SurveyOptions extends Omit<QuantizeOptions, "output" | "overwrite" | "onEvent"> {
  readonly onEvent?: (event: SurveyEvent) => void;
}

/**
 * Looks at a model before it is quantized: loud channels, heavy-tailed rows, the error that each linear would have at several bits, and
 * what rounding each group of linears does to the model's predictions; with `targetBits`, how `quantize` would spend them.
 */
export async function survey(options: SurveyOptions): Promise<SurveyResult> {
  const { source: path, calibration, threads, device = "auto", fallback, onEvent, signal, ...settings } = options;
  const start = engineOf(threads);
  checkDevice(device);
  const patience = patienceOf(signal, onEvent);
  const source = await openSource(path, patience);
  try {
    return await runSurvey({
      source, settings,
      calibration: calibrationText(calibration, source, patience),
      engine: async () => {
        const { engine, why } = await chooseDevice(await start(), device, fallback === false);
        onEvent?.({ type: "device", engine: engine.description, why });
        return engine;
      },
      scratch: openSpillFile,
      ...(onEvent && { onEvent }),
      ...(signal && { signal }),
    });
  } finally {
    await source.close();
  }
}

export interface EvaluateOptions extends EvaluateSettings {
  /** A checkpoint, plain or quantized in one of our formats: its folder, or as for `quantize` a repo on the Hub. */
  readonly model: string;
  /** The checkpoint that it was made from: adds KL divergence and top-1 agreement. */
  readonly against?: string;
  /**
   * `builtin` (default), the text that comes with Shardsmith; a text, a JSONL file, or a folder of them; the name of a set in
   * calibration-data/data-sets.json, of which the part that is held out is taken, where it has one; or a data set on the Hub, `org/dataset[:config][/split]`.
   */
  readonly text?: string;
  readonly threads?: number;
  /** Keep the result beside the model, which Shardsmith made, and in its model card. Default false. */
  readonly save?: boolean;
  readonly onEvent?: (event: EvaluateEvent) => void;
  readonly signal?: AbortSignal;
}

/** Perplexity of a checkpoint on a text and, beside another, how far apart their predictions are. Layer by layer, like `quantize`. */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { model, against, text, threads, save, onEvent, signal, ...settings } = options;
  const engine = engineOf(threads);
  // Refused before an hour's work.
  const report = save === true ? await reportBeside(readerOf(model), model) : undefined;
  const patience = patienceOf(signal, onEvent);
  const sources = [await openSource(model, patience)];
  try {
    if (against !== undefined) sources.push(await openSource(against, patience));
    const evaluation = await runEvaluate({
      model: sources[0], against: sources[1], settings,
      text: () => evaluationText(text, placesOf(patience)),
      engine,
      scratch: openSpillFile,
      ...(onEvent && { onEvent }),
      ...(signal && { signal }),
    });
    if (report !== undefined) {
      await writeFile(join(model, EVALUATION_FILE), savedEvaluation(evaluation, report));
      await writeFile(join(model, CARD_FILE), await cardBeside(readerOf(model), model));
    }
    return evaluation;
  } finally {
    for (const source of sources) await source.close();
  }
}

export interface InspectOptions {
  readonly onEvent?: (event: RetryEvent) => void;
  readonly signal?: AbortSignal;
}

/** What a checkpoint (a folder, or a repo on the Hub), or a single safetensors file on disk, holds: from headers alone. */
export async function inspect(path: string, { signal, onEvent }: InspectOptions = {}): Promise<Inspection> {
  const single = path.endsWith(".safetensors");
  const source = await openSource(single ? dirname(path) : path, patienceOf(signal, onEvent));
  try {
    return await inspectCheckpoint(source, single ? basename(path) : undefined);
  } finally {
    await source.close();
  }
}

/** What there is to compute with. Speeds are multiplications and additions a second of Hessian updates, as `quantize` measures them. */
export interface Devices {
  readonly cpu: { readonly engine: string; readonly speed: number };
  /** The fastest first; that one is measured, and is what `quantize` would take: `speed` of Hessians, whose inputs come to it meanwhile, and each kernel by itself. */
  readonly gpus: readonly (Adapter & { readonly speed?: number; readonly kernels?: readonly KernelSpeed[] })[];
  /** Why there is no GPU, or why it cannot be used, and what would help. */
  readonly problem?: string;
}

/** Lists the GPUs of this machine and measures what they would bring. */
export async function devices({ threads }: { readonly threads?: number } = {}): Promise<Devices> {
  const engine = await engineOf(threads)();
  try {
    const cpu = { engine: engine.description, speed: await cpuSpeed(engine) };
    let gpus: readonly Adapter[] = [];
    try {
      gpus = await listAdapters();
      const gpu = await createGpuEngine(engine);
      try {
        const measured = { speed: await gpuSpeed(gpu), kernels: await gpu.kernelSpeeds() };
        return { cpu, gpus: gpus.map((adapter, i) => (i === 0 ? { ...adapter, ...measured } : adapter)) };
      } finally {
        await gpu.release();
      }
    } catch (error) {
      return { cpu, gpus, problem: error instanceof Error ? error.message : String(error) };
    }
  } finally {
    await engine.close();
  }
}

/** Reads small files of a folder. */
function readerOf(folder: string): (name: string) => Promise<string | undefined> {
  return (name) => readFile(join(folder, name), "utf8").catch(() => undefined);
}

function checkDevice(device: Device | undefined): void {
  if (device !== undefined && !DEVICES.includes(device)) throw new InputError(`device is ${JSON.stringify(device)}; it must be one of ${DEVICES.join(", ")}`);
}

/** Nothing is gathered to round to nearest. */
const gathersHessians = ({ settings }: PreparedRun): boolean => settings.method !== "rtn" || settings.targetBits !== undefined;

/** What makes the engine once it is needed; threads that cannot be are refused now. */
function engineOf(threads: number | undefined): () => Promise<Engine> {
  if (threads !== undefined && !(Number.isSafeInteger(threads) && threads >= 1)) throw new InputError(`threads is ${String(threads)}; it must be a whole number of at least 1`);
  return () => createOnnxEngine(threads === undefined ? {} : { threads });
}

/**
 * The texts to calibrate on, once they are asked for.
 * @param begun the journal's first line of a run that is taken up: it goes on with the data sets as they were then
 */
function calibrationText(choice: string | undefined, source: Source, patience: SteadyOptions, begun?: string): CalibrationText {
  return (seed) => calibrationTexts(choice, source.hub !== undefined, placesOf(patience, begun), seed, patience.signal);
}

/** Where texts come from: files, what comes with the package, the Hub and its cache. */
function placesOf(patience: SteadyOptions, begun?: string): TextPlaces {
  return {
    isThere, readTextFiles, builtin: builtinCalibrationText, named: namedDataSets,
    dataSet: async (repo, revision, folder) => {
      const hub = await hubOfEnvironment();
      const options = { ...patience, cache: hubCacheOfEnvironment(), ...(folder !== undefined && { folder }) };
      const open = (wanted: string | undefined) => openHubDataSet(hub, repo, wanted, options);
      const commit = revision === undefined && begun !== undefined ? commitOf(begun, repo, "data sets") : undefined;
      // That commit may have been rewritten away: then it is another run, which says so.
      return commit === undefined ? open(revision) : open(commit).catch(() => open(revision));
    },
  };
}
