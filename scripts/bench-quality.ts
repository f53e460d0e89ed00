// What each preset leaves of a model, at each number of bits, and what it costs; beside it, if wanted, what others' quantizers leave:
//   npm run bench:quality -- MODEL_FOLDER TEXT... [--calibration FILE] [--bits 4,3] [--presets plain,fast,balanced,best] [--json ROWS] [--keep FOLDER]
//   ... --peers autoround-50,gptqmodel,llm-compressor   runs them too (scripts/peers/run.sh), or NAME=FOLDER takes what it made before
//   ... --against-plain-check                           fails where a preset is worse than plain GPTQ at the same bits
//   npm run bench:quality -- --reprint ROWS             prints the tables of such a file
// With --json, an interrupted run goes on where it stood; a new state of the code wants a new file. Linux (it reads /proc).
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { buildCalibrationSet } from "#src/calibration/sample.js";
import { conversationsAndTextsOf } from "#src/calibration/documents.js";
import { InputError } from "#src/errors.js";
import { tokenizerOf } from "#src/pipeline/tokenizer.js";
import { openModel } from "#src/pipeline/model.js";
import { openFolder } from "#src/source/folder.js";
import { builtinCalibrationText, readTextFiles } from "#src/source/text-files.js";
import { bitsAWeightOf } from "./quality/bits-a-weight.js";
import { Measurer } from "./quality/measurer.js";
import { peerNamed, measureByReaders, runPeer } from "./quality/peers.js";
import { quantize } from "./quality/quantize.js";
import { sameMeasurement, tablesOf, worseThanPlain, type Measurement, type Row } from "./quality/rows.js";

/** Options of `shardsmith quantize`. Plain is GPTQ as the others have it; a preset of one's own is given as NAME:OPTIONS. */
const PRESETS: Readonly<Record<string, string>> = {
  rtn: "--method rtn --no-search",
  plain: "--no-search --refine 0 --no-awq --no-retarget --shrink 0",
  fast: "--quality fast",
  balanced: "--quality balanced",
  best: "--quality best",
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    calibration: { type: "string", default: "builtin" },
    samples: { type: "string", default: "64" },
    "sequence-length": { type: "string", default: "1024" },
    "group-size": { type: "string", default: "64" },
    bits: { type: "string", default: "4" },
    format: { type: "string", default: "gptq" },
    presets: { type: "string", default: "plain,fast,balanced,best" },
    "max-tokens": { type: "string", default: "24576" },
    peers: { type: "string", default: "" },
    "peer-bits": { type: "string", default: "4" },
    json: { type: "string" },
    reprint: { type: "string" },
    keep: { type: "string" },
    readers: { type: "boolean", default: false },
    "against-plain-check": { type: "boolean", default: false },
  },
});
const [model, ...texts] = positionals;
const check = values["against-plain-check"];

if (values.reprint !== undefined) finish(readRows(values.reprint));
else if (model === undefined || texts.length === 0) {
  console.error("usage: npm run bench:quality -- MODEL_FOLDER TEXT... [options]; scripts/bench-quality.ts says which");
  process.exitCode = 2;
} else {
  const scratch = values.keep ?? mkdtempSync(join(tmpdir(), "bench-quality-"));
  mkdirSync(scratch, { recursive: true });
  try {
    finish(await bench(model, scratch));
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    console.error(error.message);
    process.exitCode = 2;
  } finally {
    if (values.keep === undefined) rmSync(scratch, { recursive: true });
  }
}

async function bench(folder: string, scratch: string): Promise<Row[]> {
  const [samples, sequenceLength, groupSize, maxTokens] = (["samples", "sequence-length", "group-size", "max-tokens"] as const).map((name) => number(values[name], name));
  const bits = list(values.bits).map((text) => number(text, "bits"));
  const peerBits = list(values["peer-bits"]).map((text) => number(text, "peer-bits"));
  const presets = list(values.presets).map((text) => {
    const [name, ...options] = text.split(":");
    const known = options.length > 0 ? options.join(":") : PRESETS[name];
    if (known === undefined) throw new InputError(`${name} is no preset; there are ${Object.keys(PRESETS).join(", ")}, and NAME:OPTIONS`);
    return { name, options: known.split(" ").filter((option) => option !== "") };
  });
  const peers = list(values.peers).map(peerNamed);
  if (peerBits.length > 1 && peers.some((peer) => peer.folder !== undefined)) throw new InputError("a peer's FOLDER holds one number of bits; give one in --peer-bits");
  const calibration = await calibrationOf(folder, scratch, samples, sequenceLength);
  for (const text of texts) {
    for (const { name, text: content } of await readTextFiles(text)) {
      if (calibration.texts.has(digestOf(content))) throw new InputError(`${name} is the text to calibrate on: what it would show is no measure`);
    }
  }

  const settings = { calibration: values.calibration, tokens: calibration.sha256.slice(0, 12), samples, sequenceLength, groupSize, format: values.format, maxTokens };
  const rows = values.json !== undefined && existsSync(values.json) ? readRows(values.json) : [];
  const add = (row: Row): void => {
    rows.push(row);
    if (values.json !== undefined) appendFileSync(values.json, `${JSON.stringify(row)}\n`);
  };
  const measurers = new Map<string, Measurer>();
  const measurerOf = async (text: string): Promise<Measurer> => {
    const measurer = measurers.get(text) ?? (await Measurer.open(folder, text, sequenceLength, maxTokens));
    measurers.set(text, measurer);
    return measurer;
  };
  const windowsFile = async (text: string): Promise<string> => {
    const file = join(scratch, `windows-${basename(text)}.json`);
    writeFileSync(file, JSON.stringify((await measurerOf(text)).windows.map((window) => [...window])));
    return file;
  };
  /** One that fails costs no other its row; what failed is tried again by the next run. */
  const attempt = async (preset: string, b: number, work: (wanted: readonly Measurement[]) => Promise<void>): Promise<void> => {
    const keys = texts.map((text) => ({ model: nameOf(folder), text: basename(text), preset, bits: b, settings }));
    const wanted = keys.filter((key) => !rows.some((row) => sameMeasurement(row, key)));
    if (wanted.length === 0) return;
    console.error(`${preset}, ${b} bits ...`);
    try {
      await work(wanted);
    } catch (error) {
      console.error(`${preset}, ${b} bits: ${error instanceof Error ? error.message : String(error)}`);
      process.exitCode = 1;
    }
  };

  try {
    for (const b of bits) {
      for (const { name, options } of presets) {
        await attempt(name, b, async (wanted) => {
          const output = join(scratch, `${nameOf(folder)}-${name}-${b}`);
          const flags = ["--format", values.format, "--bits", String(b), "--group-size", String(groupSize), "--samples", String(samples), "--sequence-length", String(sequenceLength), "--calibration", values.calibration];
          const cost = await quantize(folder, output, [...flags, ...options]);
          const bitsAWeight = await bitsAWeightOf(folder, output);
          for (const key of wanted) {
            const text = texts.find((one) => basename(one) === key.text)!;
            const measured = await (await measurerOf(text)).measure(output);
            const byReaders = values.readers || (peers.length > 0 && peerBits.includes(b)) ? measureByReaders(folder, await windowsFile(text), output) : undefined;
            add({ ...key, options: options.join(" "), bitsAWeight, ...cost, ...measured, ...(byReaders && { byReaders }) });
          }
          if (values.keep === undefined) rmSync(output, { recursive: true });
        });
      }
    }
    for (const b of peerBits) {
      for (const peer of peers) {
        await attempt(peer.name, b, async (wanted) => {
          const { output, cost } = runPeer(peer, folder, calibration.file, join(scratch, `${nameOf(folder)}-${peer.name}-${b}-${settings.tokens}`), b, groupSize);
          for (const key of wanted) {
            const text = texts.find((one) => basename(one) === key.text)!;
            add({ ...key, options: "", ...measureByReaders(folder, await windowsFile(text), output), ...cost, peer: true });
          }
        });
      }
    }
  } finally {
    for (const measurer of measurers.values()) await measurer.close();
  }
  return rows;
}

/** The calibration tokens that `shardsmith quantize` takes, as JSON for the others; and what texts they come from, by SHA-256. */
async function calibrationOf(folder: string, scratch: string, samples: number, sequenceLength: number): Promise<{ file: string; sha256: string; texts: Set<string> }> {
  const origin = values.calibration;
  const files = origin === "builtin" ? await builtinCalibrationText() : await readTextFiles(origin);
  const source = await openFolder(folder);
  try {
    const { checkpoint, decoder } = await openModel(source);
    const set = await buildCalibrationSet([{ origin, documents: conversationsAndTextsOf(files) }], await tokenizerOf(checkpoint), { samples, sequenceLength, seed: 0, vocabSize: decoder.vocabSize });
    const file = join(scratch, `calibration-${set.sha256.slice(0, 12)}.json`);
    writeFileSync(file, JSON.stringify(set.sequences.map((sequence) => [...sequence])));
    return { file, sha256: set.sha256, texts: new Set(files.map(({ text }) => digestOf(text))) };
  } finally {
    await source.close();
  }
}

function finish(rows: readonly Row[]): void {
  console.log(tablesOf(rows));
  if (!check) return;
  const worse = worseThanPlain(rows);
  for (const line of worse) console.log(line);
  if (worse.length > 0) process.exitCode = 1;
  else console.log("No preset is worse than plain GPTQ, beyond the standard error of the difference.");
}

function readRows(file: string): Row[] {
  return readFileSync(file, "utf8").split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Row);
}

function list(text: string): string[] {
  return text.split(",").map((item) => item.trim()).filter((item) => item !== "");
}

function number(text: string, name: string): number {
  const value = Number(text);
  if (!Number.isInteger(value)) throw new InputError(`--${name} is ${text}; it must be a whole number`);
  return value;
}

function nameOf(folder: string): string {
  return basename(realpathSync(folder));
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
