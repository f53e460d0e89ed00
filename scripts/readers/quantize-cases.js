// `node quantize-cases.js CASES.json`: quantizes models as the command line would, all in one process, and writes what Shardsmith computes with each.
//
// CASES.json is a list of {name, model, options, folder, ours, text}. Lines of JSON as the readers print them (run-reader.js); a result that went
// well has the report's notices.
import { readFileSync } from "node:fs";
import yargs from "yargs";
import { builder } from "#src/cli/quantize.js";
import { settingsOf } from "#src/cli/settings.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { quantize } from "shardsmith";
import { writeOurLogits } from "./our-logits.js";

/** What runs beside it has the other cores. */
const THREADS = 1;

const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const engine = await createOnnxEngine({ threads: THREADS });
for (const { name, model, options, folder, ours, text } of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  try {
    const settings = settingsOf(await builder(yargs(options)).strict().exitProcess(false).parseAsync());
    const { notices } = await quantize({ source: model, output: folder, ...settings, device: "cpu", threads: THREADS });
    await writeOurLogits(engine, folder, text, ours);
    report({ case: name, check: "quantize", ok: true, notices });
  } catch (error) {
    report({ case: name, check: "quantize", ok: false, detail: error.stack });
  }
  report({ case: name, done: true });
}
await engine.close();
