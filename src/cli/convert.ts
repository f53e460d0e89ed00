import type { Argv, ArgumentsCamelCase } from "yargs";
import { FORMATS } from "../formats/formats.js";
import { convert, type ConvertEvent } from "../index.js";
import { StatusLine } from "./status-line.js";
import { formatBytes, parseBytes } from "./units.js";

export const command = "convert <folder>";
export const describe = "Write a quantized checkpoint in another format, exactly, without calibration";

export function builder(yargs: Argv) {
  return yargs
    .positional("folder", { describe: "folder of the quantized checkpoint, org/name[@revision] or a Hub URL", type: "string", demandOption: true })
    .option("format", { type: "string", demandOption: true, describe: `checkpoint format to write, of ${FORMATS.map(({ name }) => name).join(", ")}; or several, with commas` })
    .option("output", { alias: "o", type: "string", demandOption: true, describe: "folder for it; of several formats each has a subfolder of its name" })
    .option("max-shard-size", { type: "string", default: "5GB" })
    .option("overwrite", { type: "boolean", default: false, describe: "replace what the output folder holds" })
    .option("json", { type: "boolean", default: false, describe: "print one event a line, as JSON" });
}

type Arguments = ArgumentsCamelCase<Awaited<ReturnType<ReturnType<typeof builder>["parseAsync"]>>>;

export async function run(args: Arguments, signal: AbortSignal): Promise<void> {
  const status = new StatusLine(process.stderr);
  const onEvent = (event: ConvertEvent): void => {
    if (args.json) console.log(JSON.stringify(event));
    else if (event.type === "done") status.clear();
    else if (event.type === "retry") status.retry(event);
    else if (event.type === "shard") status.print(`Wrote ${event.file} (${formatBytes(event.size)})`);
    else status.update({ done: event.done / event.count, doing: `${event.type === "checked" ? "checking whether it fits" : "writing"} ${event.format}` });
    if (!args.json && event.type === "done") {
      const { bytes, bitsPerWeight, run: made } = event.report;
      console.log(`${String(made["format"])}: ${event.already ? `${args.output} holds this very checkpoint already` : `${formatBytes(bytes)}, ${bitsPerWeight.toFixed(2)} bits a quantized weight`}`);
    }
  };
  await convert({ source: args.folder, output: args.output, formats: args.format.split(","), maxShardSize: parseBytes(args.maxShardSize, "max-shard-size"), overwrite: args.overwrite, signal, onEvent });
}
