import type { Argv, ArgumentsCamelCase } from "yargs";
import { inspect } from "../index.js";
import { StatusLine } from "./status-line.js";
import { table } from "./table.js";
import { formatBytes } from "./units.js";

export const command = "inspect <path>";
export const describe = "List tensors, dtypes, sizes and quantization, from headers alone";

export function builder(yargs: Argv) {
  return yargs
    .positional("path", { describe: "folder of a checkpoint, a safetensors file, org/name[@revision] or a Hub URL", type: "string", demandOption: true })
    .option("json", { type: "boolean", default: false, describe: "print JSON" });
}

type Arguments = ArgumentsCamelCase<Awaited<ReturnType<ReturnType<typeof builder>["parseAsync"]>>>;

export async function run(args: Arguments, signal: AbortSignal): Promise<void> {
  const status = new StatusLine(process.stderr);
  const inspection = await inspect(args.path, { signal, onEvent: (event) => { status.retry(event); } });
  status.clear();
  if (args.json) {
    console.log(JSON.stringify(inspection));
    return;
  }
  const { tensors, files, quantization, modelType, bytes } = inspection;
  console.log(table(["tensor", "dtype", "shape", ">size", "file"], tensors.map(({ name, dtype, shape, bytes: size, file }) => [name, dtype, `[${shape.join(", ")}]`, formatBytes(size), file])));
  console.log(`${modelType === undefined ? "" : `${modelType}: `}${String(tensors.length)} tensors, ${formatBytes(bytes)} in ${String(files.length)} ${files.length === 1 ? "file" : "files"}`);
  if (quantization) {
    const { format, bits, groupSize, symmetric, linears, mix } = quantization;
    const groups = groupSize === -1 ? "one scale a row" : `groups of ${String(groupSize)}`;
    console.log(`${format}: ${String(linears)} linears at ${mix.length > 1 ? mix.map((own) => `${String(own.bits)} bits (${String(own.linears)})`).join(", ") : `${String(bits)} bits`}, ${groups}, ${symmetric ? "symmetric" : "asymmetric"}, ${formatBytes(quantization.bytes)}`);
  }
}
