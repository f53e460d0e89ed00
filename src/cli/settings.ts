import type { Argv, ArgumentsCamelCase } from "yargs";
import { DEVICES } from "../engine/device.js";
import { FORMATS } from "../formats/formats.js";
import { InputError, type Bits, type QuantizeSettings } from "../index.js";
import { GROUP_SIZES, QUALITIES, TABLE_BITS, type Quality } from "../pipeline/options.js";
import { BITS, ORDERS } from "../quantize/scheme.js";
import { METHODS } from "../quantize/slab.js";
import { parseBytes } from "./units.js";

/** The texts to calibrate on, for each command that does. Which sets have names, an unknown one is told. */
export const CALIBRATION = {
  type: "string",
  describe: "builtin, c4, wikitext, chat, code or multilingual; a text, a JSONL file or a folder of them; a data set on the Hub, as org/name[:config][/split]; or several of these, with commas [default: builtin, and c4 for a model on the Hub]",
} as const;

/** What gathers Hessians, for each command that has any. */
export const DEVICE = {
  choices: DEVICES, default: "auto" as const, describe: "what gathers Hessians and takes part in the rest; auto: a GPU where there is a real one that is faster (see: shardsmith devices)",
} as const;

/** The options that say how to quantize, for each command that asks for them, and the source. */
export function settingsOptions(yargs: Argv) {
  return yargs
    .positional("source", { describe: "folder of the checkpoint, in the Hub's layout; org/name[@revision] or a Hub URL", type: "string", demandOption: true })
    .option("method", { choices: METHODS, default: "gptq" as const, describe: "gptq calibrates; rtn rounds to nearest, for any architecture" })
    .option("bits", { choices: BITS, default: 4 as const })
    .option("keep", { type: "string", array: true, nargs: 1, default: [] as string[], describe: "linears that stay as they are, as *.down_proj or model.layers.0.*; may be given again" })
    .option("bits-for", { type: "string", array: true, nargs: 1, default: [] as string[], describe: "other bits for some linears, as *.down_proj=8; may be given again, the last that matches counts" })
    .option("lm-head", { choices: TABLE_BITS, describe: "bits of lm_head, of a model that has one of its own [default: it stays as it is]" })
    .option("embeddings", { choices: TABLE_BITS, describe: "bits of the embedding, in formats whose readers take that [default: it stays as it is]" })
    .option("target-bits", { type: "number", describe: "bits a weight, scales and all: a survey chooses which linears get how many; in place of --bits" })
    .option("group-size", { choices: GROUP_SIZES, describe: "input channels that share a scale; -1: one scale a row [default: the largest of 128, 64, 32 that divides every linear]" })
    .option("format", { type: "string", default: FORMATS[0].name, describe: `checkpoint format, of ${FORMATS.map(({ name }) => name).join(", ")}; or several, with commas, of the same codes: each goes to a subfolder of its name` })
    .option("sym", { type: "boolean", default: true, describe: "zero points in the middle of the range" })
    .option("k-quant", { type: "boolean", default: false, describe: "gguf: 4 bits as Q4_K; as Q4_1 where input channels are no multiple of 256" })
    .option("order", { choices: ORDERS, default: "group-aware" as const, describe: "order in which GPTQ visits channels; act is desc_act" })
    .option("quality", { choices: Object.keys(QUALITIES) as Quality[], default: "balanced" as const, describe: `how much work goes into the codes: ${Object.values(QUALITIES).map(({ refine }) => String(refine)).join(", ")} sweeps of --refine` })
    .option("refine", { type: "number", describe: "sweeps of coordinate descent after GPTQ [default: as --quality says]" })
    .option("awq", { type: "boolean", describe: "scale loud input channels, and what comes before them by the inverse [default: as --quality says]" })
    .option("retarget", { type: "boolean", describe: "aim at what the original model computes; costs a second forward pass [default: as --quality says]" })
    .option("search", { type: "boolean", default: true, describe: "choose scales by the error they leave" })
    .option("damp", { type: "number", default: 0.01, describe: "damping of the Hessian, as a share of its mean diagonal" })
    .option("shrink", { type: "number", default: 0.1, describe: "how much less than the calibration text shows channels are taken to be correlated" })
    .option("calibration", CALIBRATION)
    .option("samples", { type: "number", default: 128, describe: "calibration sequences" })
    .option("sequence-length", { type: "number", describe: "tokens a sequence [default: 2048, or what the model was made for]" })
    .option("seed", { type: "number", default: 0, describe: "of the choice of calibration documents" })
    .option("max-shard-size", { type: "string", default: "5GB" })
    .option("memory", { type: "string", default: "2GB", describe: "hidden states held in memory; beyond it they go to a file" })
    .option("threads", { type: "number", describe: "threads that compute [default: one a core]" });
}

type Arguments = ArgumentsCamelCase<Awaited<ReturnType<ReturnType<typeof settingsOptions>["parseAsync"]>>>;

/** What was given, as the library takes it. Throws `InputError` for what no option can be. */
export function settingsOf(args: Arguments): QuantizeSettings {
  return {
    method: args.method, bits: args.bits, ...formatsOf(args.format), symmetric: args.sym, kQuant: args.kQuant, order: args.order, quality: args.quality, search: args.search, damp: args.damp, shrink: args.shrink,
    // --no-keep is about shards, and yargs puts a false among these for it.
    keep: args.keep.filter((pattern: unknown) => pattern !== false), bitsFor: args.bitsFor.map(parseBitsFor),
    samples: args.samples, seed: args.seed,
    maxShardSize: parseBytes(args.maxShardSize, "max-shard-size"), memory: parseBytes(args.memory, "memory"),
    ...(args.targetBits !== undefined && { targetBits: args.targetBits }),
    ...(args.refine !== undefined && { refine: args.refine }),
    ...(args.awq !== undefined && { awq: args.awq }),
    ...(args.retarget !== undefined && { retarget: args.retarget }),
    ...(args.lmHead !== undefined && { lmHead: args.lmHead }),
    ...(args.embeddings !== undefined && { embeddings: args.embeddings }),
    ...(args.groupSize !== undefined && { groupSize: args.groupSize }),
    ...(args.sequenceLength !== undefined && { sequenceLength: args.sequenceLength }),
  };
}

/** "gptq,awq" */
function formatsOf(text: string): Pick<QuantizeSettings, "format" | "alsoIn"> {
  const [format, ...alsoIn] = text.split(",");
  return { ...(format !== undefined && { format }), alsoIn };
}

/** "*.down_proj=8" */
function parseBitsFor(text: string): { pattern: string; bits: Bits } {
  const at = text.lastIndexOf("=");
  if (at < 1) throw new InputError(`--bits-for is ${JSON.stringify(text)}; give a pattern and bits, as *.down_proj=8`);
  // What are no bits at all is refused with the other options.
  return { pattern: text.slice(0, at), bits: Number(text.slice(at + 1)) as Bits };
}
