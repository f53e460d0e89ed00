import type { Argv, ArgumentsCamelCase } from "yargs";
import { InputError, planQuantize, quantize, type BitsMix, type LinearReport, type Published, type QuantizeEvent, type QuantizeOptions, type Report } from "../index.js";
import { withinLayer } from "../pipeline/overview.js";
import { publishedLine, publishOptions } from "./push.js";
import { DEVICE, settingsOf, settingsOptions } from "./settings.js";
import { StatusLine } from "./status-line.js";
import { table } from "./table.js";
import { formatBytes, formatCount, formatSeconds } from "./units.js";

export const command = "quantize <source>";
export const describe = "Quantize a checkpoint";

export function builder(yargs: Argv) {
  return publishOptions(settingsOptions(yargs))
    .option("output", { alias: "o", describe: "folder for the quantized checkpoint [with --push: the repo's name, in this folder]", type: "string" })
    .option("push", { type: "string", describe: "publish it on the Hub as org/name: shards go up while later layers compute, one commit at the end shows all" })
    .option("no-keep", { type: "boolean", describe: "with --push: delete each shard here once the Hub has confirmed its SHA-256" })
    .option("device", DEVICE)
    .option("fallback", { type: "boolean", default: true, describe: "let the CPU go on where a GPU fails; --no-fallback: end the run" })
    .option("overwrite", { type: "boolean", default: false, describe: "replace what the output folder holds" })
    .option("dry-run", { type: "boolean", default: false, describe: "say what would be done, and do nothing" })
    .option("json", { type: "boolean", default: false, describe: "print one event a line, as JSON" });
}

type Arguments = ArgumentsCamelCase<Awaited<ReturnType<ReturnType<typeof builder>["parseAsync"]>>>;

export async function run(args: Arguments, signal: AbortSignal): Promise<void> {
  const settings = { source: args.source, ...settingsOf(args) };
  if (args.dryRun) {
    await dryRun(settings, args.json, signal);
    return;
  }
  const output = outputOf(args);
  const keepShards = !args.keep.some((pattern: unknown) => pattern === false);
  const onEvent = args.json ? (event: QuantizeEvent) => void process.stdout.write(`${JSON.stringify(event)}\n`) : new QuantizeReporter(settings.alsoIn?.length ? `${output}/${String(settings.format)}` : output, args.createPr).onEvent;
  await quantize({
    ...settings, output, overwrite: args.overwrite, device: args.device, fallback: args.fallback, keepShards, signal, onEvent,
    ...(args.push !== undefined && { push: { repo: args.push, private: args.private, createPr: args.createPr, ...(args.revision !== undefined && { revision: args.revision }) } }),
    ...(args.calibration !== undefined && { calibration: args.calibration }),
    ...(args.threads !== undefined && { threads: args.threads }),
  });
}

/** Journal and shards need a folder also where the result is published. */
function outputOf({ output, push, private: hidden, createPr, revision }: Arguments): string {
  if (push === undefined && (hidden || createPr || revision !== undefined)) throw new InputError("--private, --revision and --create-pr say how to publish: give --push org/name as well");
  const folder = output ?? push?.split("/").at(-1);
  if (folder === undefined) throw new InputError("say where the quantized checkpoint goes: a folder by -o, or a repo on the Hub by --push");
  return folder;
}

async function dryRun(settings: Omit<QuantizeOptions, "output" | "onEvent">, json: boolean, signal: AbortSignal): Promise<void> {
  const status = new StatusLine(process.stderr);
  const { plan, sourceBytes, bytes, shards } = await planQuantize({ ...settings, signal, onEvent: (event) => { status.retry(event); } });
  status.clear();
  const quantized = plan.linears.filter(({ scheme }) => scheme !== undefined).length;
  if (json) {
    console.log(JSON.stringify({ type: "dry-run", linears: plan.linears, groupSize: plan.groupSize, bitsPerWeight: plan.bitsPerWeight, notices: plan.notices, sourceBytes, bytes, shards }));
    return;
  }
  console.log(`${String(quantized)} of ${String(plan.linears.length)} linears${plan.mix.length > 1 ? ` (${mixText(plan.mix)})` : ""} at ${plan.bitsPerWeight.toFixed(2)} bits a weight, ${groups(plan.groupSize)}`);
  console.log(`${formatBytes(sourceBytes)} → ${formatBytes(bytes)} in ${shards.map(({ file }) => file).join(", ")}`);
  for (const notice of plan.notices) console.log(`Note: ${notice}`);
}

/** "c4: 12,345 tokens of 30 documents, from allenai/c4, commit 1588ec45" */
function calibrationPart({ origin, tokens, documents, dataSet }: Extract<QuantizeEvent, { readonly type: "calibration" }>["parts"][number]): string {
  return `${origin}: ${formatCount(tokens)} tokens of ${formatCount(documents)} documents${dataSet === undefined ? "" : `, from ${dataSet.repo}, commit ${dataSet.commit}`}`;
}

function groups(size: number): string {
  return size === -1 ? "one scale a row" : `groups of ${String(size)}`;
}

/** "10 at 8 bits, 20 at 4 bits" */
function mixText(mix: BitsMix): string {
  return mix.map(({ bits, linears }) => `${String(linears)} at ${String(bits)} bits`).join(", ");
}

/** Events as text for people. */
class QuantizeReporter {
  private readonly status = new StatusLine(process.stderr);
  private error: number | undefined;
  private secondsLeft: number | undefined;
  private readonly layerErrors: number[] = [];

  private computing = true;
  private published: Published | undefined;

  constructor(
    private readonly output: string,
    private readonly createPr: boolean,
  ) {}

  readonly onEvent = (event: QuantizeEvent): void => {
    switch (event.type) {
      case "plan":
        this.status.print(`${event.source} → ${event.output}: ${event.method}, ${event.mix.length > 1 ? mixText(event.mix) : `${String(event.mix[0].bits)} bits`}, ${groups(event.groupSize)}, format ${event.format}`);
        this.status.print(`${String(event.quantized)} of ${String(event.linears)} linears in ${String(event.layers)} layers; ${formatBytes(event.sourceBytes)} → ${formatBytes(event.bytes)}`);
        for (const notice of event.notices) this.status.print(`Note: ${notice}`);
        break;
      case "survey":
        this.status.update({ done: event.done, doing: `survey, layer ${String(event.layer + 1)}/${String(event.layers)}` });
        break;
      case "choice":
        this.status.print(`For ${String(event.targetBits)} bits a weight: ${mixText(event.mix)}${event.kept > 0 ? `, ${String(event.kept)} as they are` : ""}`);
        break;
      case "calibration":
        this.status.print(`Calibrating on ${event.origin}: ${formatCount(event.tokens)} tokens in ${String(event.sequences)} sequences of ${String(event.sequenceLength)}${event.why === undefined ? "" : `, since ${event.why}`}`);
        if (event.parts.length > 1 || event.parts.some(({ dataSet }) => dataSet !== undefined)) {
          for (const part of event.parts) this.status.print(`  ${calibrationPart(part)}`);
        }
        break;
      case "device":
        this.status.print(`Hessians are gathered ${event.why}`);
        break;
      case "resume":
        this.status.print(`Going on at layer ${String(event.layer)}, where an earlier run stopped`);
        break;
      case "progress":
        this.secondsLeft = event.secondsLeft;
        this.status.update({
          done: event.done, doing: `layer ${String(event.layer + 1)}/${String(event.layers)}, ${event.stage}`,
          error: this.error, tokensPerSecond: event.tokensPerSecond, secondsLeft: event.secondsLeft,
        });
        break;
      case "linear":
        this.error = event.report.quantized?.relativeError ?? this.error;
        if (event.report.quantized?.relativeError !== undefined) this.layerErrors.push(event.report.quantized.relativeError);
        break;
      case "layer":
        this.layerDone(event.layer, event.layers, event.seconds);
        this.computing = event.layer + 1 < event.layers;
        break;
      case "converted":
        console.log(`${event.output}: format ${event.format}, ${formatBytes(event.bytes)}${event.already ? ", there already" : ""}`);
        break;
      case "shard":
        this.status.print(`Wrote ${event.file} (${formatBytes(event.size)})`);
        break;
      case "upload":
        // While layers compute, the line is theirs.
        if (!this.computing) this.status.update({ done: event.sent / Math.max(1, event.size), doing: `sending ${event.file}` });
        break;
      case "uploaded":
        this.status.print(`${event.file} is on the Hub (${formatBytes(event.size)})`);
        break;
      case "published":
        this.published = event;
        break;
      case "retry":
        this.status.retry(event);
        break;
      case "warning":
        this.status.print(`Warning: ${event.message}`);
        break;
      case "done":
        this.status.clear();
        if (event.already) console.log(`${this.output} holds the result of this very run already${this.published === undefined ? "; nothing to do" : ""}.`);
        console.log(closingTable(event.report));
        console.log(closingLines(event.report, this.output));
        if (this.published !== undefined) console.log(publishedLine(this.published, this.createPr));
    }
  };

  /** A log gets one line a layer; on a terminal the status line says as much. */
  private layerDone(layer: number, layers: number, seconds: number): void {
    const mean = this.layerErrors.reduce((sum, error) => sum + error, 0) / Math.max(1, this.layerErrors.length);
    this.layerErrors.length = 0;
    if (process.stderr.isTTY) return;
    const left = this.secondsLeft === undefined ? "" : `, ${formatSeconds(this.secondsLeft)} left`;
    this.status.print(`layer ${String(layer + 1)}/${String(layers)}: ${formatSeconds(seconds)}, mean error ${mean.toExponential(2)}, ${formatBytes(process.memoryUsage.rss())}${left}`);
  }
}

/** Linears of one kind in a row: hundreds of single ones are in the report. */
function closingTable({ linears }: Report): string {
  const kinds = new Map<string, LinearReport[]>();
  for (const linear of linears) {
    const kind = withinLayer(linear.name);
    kinds.set(kind, [...(kinds.get(kind) ?? []), linear]);
  }
  const rows = [...kinds].map(([kind, all]) => {
    const done = all.flatMap(({ name, quantized }) => (quantized ? [{ name, ...quantized, relativeError: quantized.relativeError ?? 0 }] : []));
    const [first] = done;
    if (first === undefined) return [kind, String(all.length), "as it was", "", "", "", ""];
    const errors = done.map(({ relativeError }) => relativeError);
    const worst = done.reduce((a, b) => (b.relativeError > a.relativeError ? b : a));
    const bits = done.map((linear) => linear.bits).sort((a, b) => a - b);
    const span = bits[0] === bits.at(-1) ? String(bits[0]) : `${String(bits[0])}–${String(bits.at(-1))}`;
    return [
      kind, String(all.length), `${span} bits, ${String(first.groupSize)}${done.length < all.length ? `; ${String(all.length - done.length)} as they were` : ""}`,
      (errors.reduce((sum, error) => sum + error, 0) / errors.length).toExponential(2),
      worst.relativeError.toExponential(2), /\.(\d+)\./.exec(worst.name)?.[1] ?? "",
      done.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(1),
    ];
  });
  return table(["linear", ">count", "grid", ">mean error", ">worst", ">in layer", ">seconds"], rows);
}

function closingLines(report: Report, output: string): string {
  const lines = [
    `${formatBytes(report.sourceBytes)} → ${formatBytes(report.bytes)} (${(report.sourceBytes / report.bytes).toFixed(2)} times smaller; ${report.bitsPerWeight.toFixed(2)} bits a quantized weight) in ${formatSeconds(report.seconds)}`,
    `Error: share of each linear's output energy that is now error. All linears are in ${output}/shardsmith.json.`,
  ];
  if (report.hub !== undefined) lines.push(`Read ${formatBytes(report.hub.bytesRead)} of ${report.hub.repo}, commit ${report.hub.commit}.`);
  if (report.deviceMemory !== undefined) lines.push(`The GPU held ${formatBytes(report.deviceMemory)} at the most.`);
  if (report.warnings.length > 0) lines.push(`${String(report.warnings.length)} warnings, see above and the report.`);
  return lines.join("\n");
}
