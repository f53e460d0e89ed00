import { join } from "node:path";
import { InputError } from "../errors.js";
import { type ConvertEvent, runConvert } from "../pipeline/convert.js";
import { openFolderSink } from "../pipeline/folder-sink.js";
import { prepareConvert } from "../pipeline/prepare-convert.js";
import type { Report } from "../report/report.js";
import { openSource } from "../source/open-source.js";
import { patienceOf } from "./patience.js";
import { refuseSource } from "./refuse-source.js";

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

/**
 * `convert`, into any folders.
 * @param folders for each format, by its name
 */
export async function convertInto(
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
