import type { Argv, ArgumentsCamelCase } from "yargs";
import { push, type Published, type PushEvent } from "../index.js";
import { StatusLine } from "./status-line.js";
import { formatBytes } from "./units.js";

export const command = "push <folder> <repo>";
export const describe = "Publish a finished checkpoint on the Hub";

export function builder(yargs: Argv) {
  return publishOptions(yargs)
    .positional("folder", { describe: "folder of the finished checkpoint", type: "string", demandOption: true })
    .positional("repo", { describe: "org/name; it is made if it is not there", type: "string", demandOption: true })
    .option("json", { type: "boolean", default: false, describe: "print one event a line, as JSON" });
}

/** The options that say how to publish. */
export function publishOptions<T>(yargs: Argv<T>) {
  return yargs
    .option("private", { type: "boolean", default: false, describe: "make the repo as a private one" })
    .option("revision", { type: "string", describe: "branch to publish to; it is made if it is not there [default: main]" })
    .option("create-pr", { type: "boolean", default: false, describe: "open a pull request instead" });
}

type Arguments = ArgumentsCamelCase<Awaited<ReturnType<ReturnType<typeof builder>["parseAsync"]>>>;

export async function run(args: Arguments, signal: AbortSignal): Promise<void> {
  const status = new StatusLine(process.stderr);
  const onEvent = (event: PushEvent): void => {
    if (args.json) console.log(JSON.stringify(event));
    else if (event.type === "upload") status.update({ done: event.sent / Math.max(1, event.size), doing: `sending ${event.file}` });
    else if (event.type === "uploaded") status.print(`${event.file} is on the Hub (${formatBytes(event.size)})`);
    else if (event.type === "retry") status.retry(event);
    else if (event.type === "warning") status.print(`Warning: ${event.message}`);
  };
  const published = await push({
    folder: args.folder, repo: args.repo, private: args.private, createPr: args.createPr, signal, onEvent,
    ...(args.revision !== undefined && { revision: args.revision }),
  });
  status.clear();
  if (!args.json) console.log(publishedLine(published, args.createPr));
}

export function publishedLine({ url, changed }: Published, createPr: boolean): string {
  if (!changed) return `Nothing to publish, all of it is there already: ${url}`;
  return createPr ? `Opened a pull request: ${url}` : `Published: ${url}`;
}
