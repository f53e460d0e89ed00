import type { Argv, ArgumentsCamelCase } from "yargs";
import { FORMATS } from "../formats/formats.js";
import { survey, type SurveyedGroup, type SurveyEvent, type SurveyResult } from "../index.js";
import { GROUP_SIZES } from "../pipeline/options.js";
import { CALIBRATION, DEVICE } from "./settings.js";
import { StatusLine } from "./status-line.js";
import { table } from "./table.js";
import { formatCount, parseBytes } from "./units.js";

export const command = "survey <source>";
export const describe = "Find outliers, and how many bits each part of a model needs";

/** Groups that the report lists unless all are asked for. */
const LISTED = 12;

export function builder(yargs: Argv) {
  return yargs
    .positional("source", { describe: "folder of the checkpoint, org/name[@revision] or a Hub URL", type: "string", demandOption: true })
    .option("target-bits", { type: "number", describe: "say how quantize would spend so many bits a weight" })
    .option("format", { choices: FORMATS.map(({ name }) => name), default: FORMATS[0].name, describe: "checkpoint format" })
    .option("group-size", { choices: GROUP_SIZES, describe: "input channels that share a scale [default: as quantize chooses]" })
    .option("calibration", CALIBRATION)
    .option("samples", { type: "number", default: 128, describe: "as for quantize; the survey takes a few of them" })
    .option("sequence-length", { type: "number", describe: "as for quantize" })
    .option("seed", { type: "number", default: 0, describe: "of the choice of calibration documents" })
    .option("memory", { type: "string", default: "2GB", describe: "hidden states held in memory; beyond it they go to a file" })
    .option("threads", { type: "number", describe: "threads that compute [default: one a core]" })
    .option("device", DEVICE)
    .option("fallback", { type: "boolean", default: true, describe: "let the CPU go on where a GPU fails; --no-fallback: end the survey" })
    .option("all", { type: "boolean", default: false, describe: `list all groups of linears, not the ${String(LISTED)} that matter most` })
    .option("json", { type: "boolean", default: false, describe: "print one event a line, as JSON" });
}

type Arguments = ArgumentsCamelCase<Awaited<ReturnType<ReturnType<typeof builder>["parseAsync"]>>>;

export async function run(args: Arguments, signal: AbortSignal): Promise<void> {
  const status = new StatusLine(process.stderr);
  const onEvent = (event: SurveyEvent): void => {
    if (args.json) console.log(JSON.stringify(event));
    else if (event.type === "retry") status.retry(event);
    else if (event.type === "device") status.print(`Hessians are gathered ${event.why}`);
    else status.update({ done: event.done, doing: `survey, layer ${String(event.layer + 1)}/${String(event.layers)}` });
  };
  const result = await survey({
    source: args.source, format: args.format, samples: args.samples, seed: args.seed,
    memory: parseBytes(args.memory, "memory"), device: args.device, fallback: args.fallback, signal, onEvent,
    ...(args.calibration !== undefined && { calibration: args.calibration }),
    ...(args.targetBits !== undefined && { targetBits: args.targetBits }),
    ...(args.groupSize !== undefined && { groupSize: args.groupSize }),
    ...(args.sequenceLength !== undefined && { sequenceLength: args.sequenceLength }),
    ...(args.threads !== undefined && { threads: args.threads }),
  });
  status.clear();
  if (args.json) {
    const { choice, ...rest } = result;
    console.log(JSON.stringify({ type: "done", ...rest, ...(choice && { choice: { ...choice, wishes: Object.fromEntries(choice.wishes) } }) }));
    return;
  }
  for (const message of result.warnings) console.error(`Warning: ${message}`);
  console.log(text(result, args.all));
}

function text({ groups, tokens, positions, choice }: SurveyResult, all: boolean): string {
  const sorted = [...groups].sort((a, b) => b.divergence - a.divergence);
  const total = groups.reduce((sum, { divergence }) => sum + divergence, 0);
  const listed = all ? sorted : sorted.slice(0, LISTED);
  // At 2 bits nearly all is error.
  const widths = groups[0].errors.map(({ bits }) => bits).filter((bits) => bits > 2);
  const rows = listed.map((group) => [
    `${String(group.layer)} ${group.stage}`, kinds(group),
    group.divergence.toExponential(2), `${((100 * group.divergence) / total).toFixed(1)} %`,
    ...widths.map((bits) => worst(group, bits).toExponential(1)),
    outliers(group), String(group.linears.reduce((sum, { heavyRows }) => sum + heavyRows, 0)),
    ...(choice ? [chosen(choice.wishes.get(group.linears[0].name))] : []),
  ]);
  const heads = ["layer, input", "linears", ">KL at 3 bits", ">of all", ...widths.map((bits, i) => `>${i === 0 ? "error at" : "at"} ${String(bits)}`), "outlier channels", ">heavy rows", ...(choice ? [">bits"] : [])];
  const lines = [table(heads, rows)];
  if (listed.length < groups.length) lines.push(`and ${String(groups.length - listed.length)} more (--all)`);
  lines.push(
    `KL at 3 bits: divergence of the model's predictions once these linears alone are rounded to 3 bits; ${formatCount(positions)} positions.`,
    `Error: share of the output's energy, the worst of the linears, rounded to nearest; ${formatCount(tokens)} tokens.`,
    "Outlier channels: channel × how often the median's root mean square. Heavy rows: of the weights, kurtosis above 6.",
  );
  if (choice) {
    const counts = new Map<string, number>();
    for (const wish of choice.wishes.values()) counts.set(chosen(wish), (counts.get(chosen(wish)) ?? 0) + 1);
    const mix = [...counts].sort().map(([bits, count]) => `${String(count)} at ${bits}`).join(", ");
    lines.push(`Chosen: ${mix}: ${choice.bitsPerWeight.toFixed(3)} bits a weight`);
  }
  return lines.join("\n");
}

function chosen(wish: number | "keep" | undefined): string {
  return wish === "keep" ? "as it is" : String(wish);
}

function kinds({ linears }: SurveyedGroup): string {
  return linears.map(({ name }) => name.split(".").at(-1)!.replace(/_proj$/, "")).join(", ");
}

function worst({ linears }: SurveyedGroup, bits: number): number {
  return Math.max(...linears.map(({ errors }) => errors.find((error) => error.bits === bits)!.relativeError));
}

function outliers({ outliers: found }: SurveyedGroup): string {
  const named = found.slice(0, 3).map(({ channel, factor }) => `${String(channel)} × ${factor.toFixed(0)}`);
  return `${named.join(", ")}${found.length > 3 ? ` and ${String(found.length - 3)} more` : ""}`;
}
