import { join } from "node:path";
import type { Device } from "../engine/device.js";
import type { Engine } from "../engine/engine.js";
import { chooseDevice } from "../engine/gpu/choose-device.js";
import { describesGpu } from "../engine/gpu/create-gpu-engine.js";
import { InputError } from "../errors.js";
import { FORMATS } from "../formats/formats.js";
import type { ConvertEvent } from "../pipeline/convert.js";
import type { QuantizeEvent } from "../pipeline/events.js";
import { firstOfJournal, freeSpace, openFolderSink } from "../pipeline/folder-sink.js";
import type { QuantizeSettings } from "../pipeline/options.js";
import { prepareRun } from "../pipeline/prepare-run.js";
import { runQuantize } from "../pipeline/quantize.js";
import { commitOf, engineOfRun, REPORT_FILE } from "../pipeline/standing.js";
import type { PublishTo } from "../publish/hub-publisher.js";
import type { Report } from "../report/report.js";
import { openSource } from "../source/open-source.js";
import { convertInto } from "./convert.js";
import { checkDevice, engineOf, gathersHessians } from "./engine.js";
import { patienceOf } from "./patience.js";
import { publisherOf } from "./publisher.js";
import { readerOf } from "./reader.js";
import { refuseSource } from "./refuse-source.js";
import { calibrationText } from "./texts.js";

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
  /** What gathers Hessians and carries errors over to later columns; a real GPU computes the forward pass too. `auto` (default): a GPU where there is a real one that is measured to be faster; a run that is taken up stays where it was. */
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
        const chosen = await chooseDevice(await start(), earlier === undefined ? device : deviceOf(earlier), fallback === false);
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
  if (alsoIn.length > 0) {
    const onConvert = (event: ConvertEvent): void => {
      if (event.type !== "done") return;
      const name = String(event.report.run["format"]);
      onEvent?.({ type: "converted", format: name, output: join(output, name), bytes: event.report.bytes, already: event.already });
    };
    await convertInto(folder, new Map(alsoIn.map((other) => [other, join(output, other)])), { ...settings, overwrite, onEvent: onConvert, signal });
  }
  return report;
}

/** Where a run was that is taken up, by its journal or its report: there it stays. */
function deviceOf(earlier: string): Device {
  return describesGpu(engineOfRun(earlier) ?? "") ? "gpu" : "cpu";
}
