import type { Argv, ArgumentsCamelCase } from "yargs";
import { evaluate, type EvaluateEvent } from "../index.js";
import { StatusLine } from "./status-line.js";
import { table } from "./table.js";
import { formatCount, parseBytes } from "./units.js";

export const command = "eval <model>";
export const describe = "Measure perplexity and, against the original, KL divergence";

export function builder(yargs: Argv) {
  return yargs
    .positional("model", { describe: "a checkpoint, plain or quantized: its folder, org/name[@revision] or a Hub URL", type: "string", demandOption: true })
    .option("against", { type: "string", describe: "the checkpoint that it was made from" })
    .option("text", { type: "string", default: "builtin", describe: "builtin, the text that comes with Shardsmith; a text, a JSONL file or a folder of them; c4, wikitext, chat, code or multilingual; a data set on the Hub, as org/name[:config][/split]" })
    .option("sequence-length", { type: "number", describe: "tokens a window [default: 2048, or what the model was made for]" })
    .option("max-tokens", { type: "number", describe: "stop after so many tokens of the text [default: all; 131,072 of a data set]" })
    .option("memory", { type: "string", default: "2GB", describe: "hidden states held in memory; beyond it they go to a file" })
    .option("threads", { type: "number", describe: "threads that compute [default: one a core]" })
    .option("save", { type: "boolean", default: false, describe: "keep the result beside the model, and in its model card" })
    .option("json", { type: "boolean", default: false, describe: "print one event a line, as JSON" });
}

type Arguments = ArgumentsCamelCase<Awaited<ReturnType<ReturnType<typeof builder>["parseAsync"]>>>;

export async function run(args: Arguments, signal: AbortSignal): Promise<void> {
  const status = new StatusLine(process.stderr);
  const onEvent = (event: EvaluateEvent): void => {
    if (args.json) console.log(JSON.stringify(event));
    else if (event.type === "retry") status.retry(event);
    else if (event.type === "text") status.print(`Measuring on ${event.origin}: ${formatCount(event.tokens)} tokens in ${String(event.windows)} windows`);
    else status.update({ done: event.done, doing: `${event.model}, ${event.step}` });
  };
  const result = await evaluate({
    model: args.model, text: args.text, save: args.save, memory: parseBytes(args.memory, "memory"), signal, onEvent,
    ...(args.against !== undefined && { against: args.against }),
    ...(args.sequenceLength !== undefined && { sequenceLength: args.sequenceLength }),
    ...(args.maxTokens !== undefined && { maxTokens: args.maxTokens }),
    ...(args.threads !== undefined && { threads: args.threads }),
  });
  status.clear();
  if (args.json) {
    console.log(JSON.stringify({ type: "done", ...result }));
    return;
  }
  const { against } = result;
  const rows = [
    ...(against ? [[against.model, plusMinus(against.perplexity, against.perplexityError), "", ""]] : []),
    [
      result.model, plusMinus(result.perplexity, result.perplexityError),
      against ? plusMinus(against.klDivergence, against.klDivergenceError) : "", against ? `${(100 * against.top1Agreement).toFixed(1)} %` : "",
    ],
  ];
  console.log(table(["model", ">perplexity", ...(against ? [">KL divergence", ">same top token"] : [])], rows.map((row) => row.slice(0, against ? 4 : 2))));
  console.log(`${formatCount(result.tokens)} predicted tokens, windows of ${String(result.sequenceLength)}; ± is one standard error`);
}

function plusMinus(value: number, error: number): string {
  return `${value.toFixed(4)} ± ${error.toFixed(4)}`;
}
