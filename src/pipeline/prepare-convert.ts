import { InputError } from "../errors.js";
import type { FormatRun, LinearPlan, ModelFacts } from "../formats/format.js";
import { formatByName } from "../formats/formats.js";
import { checkShapes } from "../model/check-shapes.js";
import { embeddingOf, lmHeadOf } from "../model/head.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import type { ScaleDtype } from "../quantize/scheme.js";
import type { Report } from "../report/report.js";
import type { TensorSpec } from "../safetensors/tensor.js";
import type { Source } from "../source/source.js";
import { reportBeside } from "./card.js";
import { checkPacked } from "./check-packed.js";
import { heldIn } from "./held-in.js";
import { knownDecoder } from "./known-decoder.js";
import { openWeights, type Weights } from "./open-weights.js";
import { outputsFor, type Outputs } from "./outputs.js";
import { packedLinears } from "./packed-linears.js";
import { candidatesOf } from "./plan.js";
import { filesOf, QUANTIZER, type PreparedRun } from "./prepare-run.js";
import { REPORT_FILE } from "./standing.js";

/** A conversion of which it is known that it works out, to the last value. */
export interface PreparedConversion extends Pick<PreparedRun, "shards" | "files" | "configKeys"> {
  readonly weights: Weights;
  readonly format: string;
  /** What the source would be, were it not quantized. */
  readonly model: ModelFacts;
  readonly outputs: Outputs;
  readonly run: FormatRun;
  /** A linear as the format holds it, read anew. */
  readonly linear: (name: string) => Promise<QuantizedLinear>;
  /** What the source's own report says, if Shardsmith made it. */
  readonly report: Report | undefined;
}

export interface ConvertSettings {
  /** Checkpoint format to write. */
  readonly format: string;
  /** Largest shard in bytes. Default 5 GB. */
  readonly maxShardSize?: number;
}

/**
 * Reads a packed checkpoint once, linear by linear, to see whether the format holds all of it exactly, and lays out what it becomes. Throws `InputError` naming the
 * linear and what cannot be held.
 * @param onLinear called after each of `count`
 */
export async function prepareConvert(source: Source, { format: name, maxShardSize = 5e9 }: ConvertSettings, onLinear: (done: number, count: number) => void, signal: AbortSignal | undefined): Promise<PreparedConversion> {
  const format = formatByName(name);
  const weights = await openWeights(source);
  const { checkpoint, packed } = weights;
  const { label } = source;
  if (packed === undefined) throw new InputError(`${label} is not quantized; quantize it first, in the format that is wanted`);
  if (packed.format === name) throw new InputError(`${label} is in the format ${name} already`);
  const decoder = knownDecoder(checkpoint);
  if (decoder !== undefined) checkPacked(weights, decoder);
  const { parts, read } = packedLinears(weights);

  /** Exactly as the format holds it, or refused. */
  const held = async (module: string): Promise<QuantizedLinear> => {
    const linear = await read(module);
    const found = heldIn(format, linear, format.scaleDtype(modelDtype ?? linear.scheme.scaleDtype));
    if ("why" in found) throw new InputError(`${label}: ${module} cannot be converted to ${name}: ${found.why}`);
    return found.linear;
  };
  const modelDtype = dtypeOf(checkpoint.config);
  const plans = new Map<string, LinearPlan>();
  const tensors = new Map<string, TensorSpec>(checkpoint.tensors);
  let act = false;
  for (const [module, own] of parts) {
    signal?.throwIfAborted();
    const { outFeatures, inFeatures, scheme, groupOf } = await held(module);
    act ||= groupOf !== undefined;
    plans.set(module, { name: module, outFeatures, inFeatures, scheme });
    for (const part of own.values()) tensors.delete(part);
    tensors.set(`${module}.weight`, { name: `${module}.weight`, dtype: modelDtype ?? scheme.scaleDtype, shape: [outFeatures, inFeatures] });
    onLinear(plans.size, parts.size);
  }
  if (decoder !== undefined) checkShapes(decoder, tensors, label);
  const quantized = [...plans.values()];
  const symmetric = quantized.every(({ scheme }) => scheme!.symmetric);
  const model: ModelFacts = { config: withoutQuantization(checkpoint.config), decoder, tensors };
  const refusal = format.container?.refusesModel(model);
  if (refusal !== undefined) throw new InputError(`${label} cannot be converted to ${name}: ${refusal}`);

  if (decoder !== undefined && format.embeddings !== true && plans.has(embeddingOf(decoder).name)) {
    throw new InputError(`${label} cannot be converted to ${name}: its embedding is quantized, which readers of ${name} take only as it is`);
  }
  const linears = linearsOf(model, plans, label).map((plan) => (plan.scheme === undefined || plan.scheme.symmetric === symmetric ? plan : { ...plan, scheme: { ...plan.scheme, symmetric } }));
  const lmHead = (decoder && lmHeadOf(decoder)?.name) ?? "lm_head";
  const report = checkpoint.files.has(REPORT_FILE) ? await reportBeside(async (file) => new TextDecoder().decode(await checkpoint.readFile(file)), label) : undefined;
  const order = act ? "act" : report?.run["order"] === "group-aware" ? "group-aware" : "natural";
  const bits = commonest(quantized.map(({ scheme }) => scheme!.bits));
  const headBits = plans.get(lmHead)?.scheme?.bits;
  const refused = format.refusesRun({ bits, symmetric, order, lmHead: headBits });
  if (refused !== undefined) throw new InputError(`${label} cannot be converted to ${name}: ${refused}`);
  const outputs = outputsFor(model, linears, order, format);
  return {
    weights, format: name, model, outputs, report,
    ...(await filesOf(model, { linears, outputs: outputs.outputs }, checkpoint, maxShardSize, format)),
    run: {
      linears, bits, symmetric, order, lmHead,
      groupSize: quantized.every(({ scheme, inFeatures }) => scheme!.groupSize === inFeatures) ? -1 : commonest(quantized.map(({ scheme }) => scheme!.groupSize)),
      method: report?.run["method"] === "rtn" ? "rtn" : "gptq", damp: Number(report?.run["damp"] ?? 0), quantizer: QUANTIZER,
    },
    linear: async (module) => {
      const linear = await held(module);
      return { ...linear, scheme: { ...linear.scheme, symmetric } };
    },
  };
}

/** Every linear of the layers, in order, and what else is packed; those that are not, with why. */
function linearsOf(model: ModelFacts, packed: ReadonlyMap<string, LinearPlan>, label: string): LinearPlan[] {
  const known = candidatesOf(model).map(({ name, outFeatures, inFeatures }) => packed.get(name) ?? { name, outFeatures, inFeatures, why: `it is not quantized in ${label}` });
  const names = new Set(known.map(({ name }) => name));
  return [...known, ...[...packed.values()].filter(({ name }) => !names.has(name))];
}

const DTYPES: Readonly<Record<string, ScaleDtype>> = { float16: "F16", bfloat16: "BF16", float32: "F32" };

/** In which dtype transformers would hold the model; undefined where config.json does not say. */
function dtypeOf(config: ModelFacts["config"]): ScaleDtype | undefined {
  return DTYPES[String(config["dtype"] ?? config["torch_dtype"])];
}

/** What formats add to config.json. */
const OF_FORMATS = new Set(["quantization_config", "quantization", "transformers.js_config"]);

function withoutQuantization(config: ModelFacts["config"]): ModelFacts["config"] {
  return Object.fromEntries(Object.entries(config).filter(([key]) => !OF_FORMATS.has(key)));
}

function commonest<T extends number>(values: readonly T[]): T {
  const counts = new Map<T, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((most, next) => (next[1] > most[1] ? next : most))[0];
}
