import type { Argv, ArgumentsCamelCase } from "yargs";
import { planQuantize, type Overview, type RetryEvent } from "../index.js";
import { DEVICE, settingsOf, settingsOptions } from "./settings.js";
import { StatusLine } from "./status-line.js";
import { table } from "./table.js";
import { formatBytes, formatCount, formatSeconds } from "./units.js";

export const command = "plan <source>";
export const describe = "Say what quantize would do, what it would take, and what loads the result; from headers alone";

export function builder(yargs: Argv) {
  return settingsOptions(yargs).option("device", DEVICE).option("json", { type: "boolean", default: false, describe: "print JSON" });
}

type Arguments = ArgumentsCamelCase<Awaited<ReturnType<ReturnType<typeof builder>["parseAsync"]>>>;
type Planned = Awaited<ReturnType<typeof planQuantize>>;

export async function run(args: Arguments, signal: AbortSignal): Promise<void> {
  const status = new StatusLine(process.stderr);
  const onEvent = (event: RetryEvent): void => { status.retry(event); };
  const { overview, estimate } = await planQuantize({ source: args.source, ...settingsOf(args), device: args.device, measure: true, signal, onEvent, ...(args.threads !== undefined && { threads: args.threads }) });
  status.clear();
  if (args.json) {
    console.log(JSON.stringify({ type: "plan", ...overview, estimate }));
    return;
  }
  console.log([headline(overview), "", tensors(overview), "", figures(overview, estimate, args.memory), "", ...programs(overview)].join("\n"));
  // What is said of programs stands above.
  const told = new Set(overview.formats[0].programs!.flatMap(({ why }) => why));
  for (const notice of overview.notices) if (!told.has(notice.replace(/^.*\(\d+\): /, ""))) console.log(`Note: ${notice}`);
}

function headline({ source, modelType, layers, parameters }: Overview): string {
  return `${source}: ${[modelType, layers === undefined ? undefined : `${String(layers)} layers`, `${formatParameters(parameters)} parameters`].filter((part) => part !== undefined).join(", ")}`;
}

function formatParameters(count: number): string {
  for (const [name, size] of [["billion", 1e9], ["million", 1e6]] as const) if (count >= size) return `${(count / size).toFixed(count < 100 * size ? 1 : 0)} ${name}`;
  return formatCount(count);
}

function tensors({ linears, others, sourceBytes, bytes, bitsPerWeight, groupSize: size }: Overview): string {
  const rows = [
    ...linears.map(({ kind, count, outFeatures, inFeatures, bits, groupSize, before, after }) => [
      kind, String(count), `${String(outFeatures)} × ${String(inFeatures)}`, bits === undefined ? "as it is" : `${String(bits)} bits, ${size === -1 ? "rows" : String(groupSize)}`,
      formatBytes(before), formatBytes(after),
    ]),
    ...others.map(({ kind, count, before, after }) => [kind, String(count), "", before === after ? "as it is" : after === 0 ? "left out" : "in another dtype", formatBytes(before), formatBytes(after)]),
    ["in all", "", "", `${bitsPerWeight.toFixed(2)} bits a weight`, formatBytes(sourceBytes), formatBytes(bytes)],
  ];
  return table(["tensors", ">count", ">shape", "becomes", ">before", ">after"], rows);
}

function figures({ download, sourceBytes, bytes, shards, needs, calibrationTokens }: Overview, estimate: Planned["estimate"], limit: string): string {
  const { memory, disk } = needs;
  const rows = [
    ["size", `${formatBytes(sourceBytes)} → ${formatBytes(bytes)} in ${shards.length === 1 ? shards[0].file : `${String(shards.length)} shards`}, ${(sourceBytes / bytes).toFixed(2)} times smaller`],
    ["memory", `about ${formatBytes(memory.peak)}${memory.hidden > 0 ? `, ${formatBytes(memory.hidden)} of it hidden states (--memory ${limit})` : ""}`],
    ...(download === undefined ? [] : [["download", `${formatBytes(download)}, less what the local Hub cache holds`]]),
    ["disk", `${formatBytes(disk.checkpoint)}${disk.scratch > 0 ? `, and ${formatBytes(disk.scratch)} while it works` : ""}`],
    ...(estimate === undefined ? [] : [["time", time(estimate, calibrationTokens)]]),
    ...(estimate?.device === undefined ? [] : [["device", `Hessians are gathered ${estimate.device}`]]),
  ];
  return rows.map(([name, text]) => `${name.padEnd(10)}${text}`).join("\n");
}

function time({ total, survey, forward, hessian, factor, sweep, speed }: NonNullable<Planned["estimate"]>, tokens: number): string {
  const parts = ([["survey", survey], ["forward", forward], ["Hessians", hessian + factor], ["rounding", sweep]] as const).filter(([, seconds]) => seconds > 0).map(([name, seconds]) => `${name} ${formatSeconds(seconds)}`);
  const calibrated = tokens > 0 ? `, with ${formatCount(tokens)} calibration tokens` : "";
  return `about ${formatSeconds(total)}${calibrated} (${parts.join(", ")}), at ${(speed.flops / 1e9).toFixed(0)} GFLOP/s on ${String(speed.threads)} ${speed.threads === 1 ? "thread" : "threads"}`;
}

/** For each format a line a program: whether it will load the result, and what there is to know of it. */
function programs({ formats }: Overview): string[] {
  return formats.map(({ format, refusal, bytes, bitsPerWeight, programs: verdicts = [] }, i) => {
    const name = `${i === 0 ? "" : "--"}format ${format}`;
    if (refusal !== undefined) return `${name}: ${refusal}`;
    const lines = verdicts.map(({ program, loads, why }) => `  ${program.padEnd(16)}${loads.padEnd(9)}${why.map((text, j) => (j === 0 ? text : `\n${" ".repeat(27)}${text}`)).join("")}`.trimEnd());
    return [`${name}: ${formatBytes(bytes!)}, ${bitsPerWeight!.toFixed(2)} bits a weight; loaded by`, ...lines].join("\n");
  });
}
