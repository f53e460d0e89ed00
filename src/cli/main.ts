#!/usr/bin/env node
import yargs from "yargs";
import { hideBin } from "yargs/helpers";
import { InputError, VERSION } from "../index.js";
import * as convertCommand from "./convert.js";
import * as devicesCommand from "./devices.js";
import * as evalCommand from "./eval.js";
import { givenTwice } from "./given-twice.js";
import * as inspectCommand from "./inspect.js";
import * as planCommand from "./plan.js";
import * as pushCommand from "./push.js";
import * as quantizeCommand from "./quantize.js";
import * as surveyCommand from "./survey.js";

const FAILED = 1;
const WRONG_USAGE = 2;

const controller = new AbortController();
const interrupted = new InputError("Interrupted. What is finished is kept: the same command goes on from there");
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    // Whoever asks twice does not want to wait.
    if (controller.signal.aborted) process.exit(FAILED);
    controller.abort(interrupted);
  });
}
// A reader that has seen enough (`| head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

const { signal } = controller;
const args = hideBin(process.argv);
const twice = givenTwice(args);
if (twice !== undefined) wrongUsage(`--${twice} is given more than once; give it once`);
await yargs(args)
  .scriptName("shardsmith")
  .usage("$0 <command>\n\nQuantizes large language models, layer by layer, in the memory of one layer.")
  .command(planCommand.command, planCommand.describe, planCommand.builder, (args) => planCommand.run(args, signal))
  .command(quantizeCommand.command, quantizeCommand.describe, quantizeCommand.builder, (args) => quantizeCommand.run(args, signal))
  .command(surveyCommand.command, surveyCommand.describe, surveyCommand.builder, (args) => surveyCommand.run(args, signal))
  .command(evalCommand.command, evalCommand.describe, evalCommand.builder, (args) => evalCommand.run(args, signal))
  .command(pushCommand.command, pushCommand.describe, pushCommand.builder, (args) => pushCommand.run(args, signal))
  .command(inspectCommand.command, inspectCommand.describe, inspectCommand.builder, (args) => inspectCommand.run(args, signal))
  .command(convertCommand.command, convertCommand.describe, convertCommand.builder, (args) => convertCommand.run(args, signal))
  .command(devicesCommand.command, devicesCommand.describe, devicesCommand.builder, (args) => devicesCommand.run(args))
  .demandCommand(1, "Say what to do: plan, quantize, survey, eval, push, inspect, convert or devices")
  .strict()
  .version(VERSION)
  .alias({ h: "help", v: "version" })
  .wrap(Math.min(110, process.stdout.columns || 110))
  .fail((message: string | null, error: unknown) => {
    if (error === undefined || error === null) wrongUsage(message ?? "wrong usage");
    fail(error);
  })
  .parseAsync();

function wrongUsage(message: string): never {
  console.error(`${message}\nsee: shardsmith --help`);
  process.exit(WRONG_USAGE);
}

function fail(error: unknown): never {
  if (error instanceof InputError) {
    if (process.argv.includes("--json")) console.log(JSON.stringify({ type: "error", message: error.message }));
    console.error(error.message);
  } else {
    console.error(`Something went wrong that should not: ${error instanceof Error ? error.message : String(error)}`);
    console.error("This is a bug in Shardsmith. Please report it with the command and, from DEBUG=1, the trace.");
    if (process.env["DEBUG"] !== undefined && error instanceof Error) console.error(error.stack);
  }
  process.exit(FAILED);
}
