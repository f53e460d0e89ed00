import { InputError } from "../errors.js";
import type { BitsMix, Format, FormatRun, LinearPlan, ModelFacts } from "../formats/format.js";
import type { Decoder } from "../model/decoder.js";
import { lmHeadOf } from "../model/head.js";
import type { QuantScheme, ScaleDtype } from "../quantize/scheme.js";
import type { TensorSpec } from "../safetensors/tensor.js";
import { heldTogether, type HeldTogether } from "./held-together.js";
import { kindOf, wishesOf, type Wish } from "./module-rules.js";
import type { ResolvedSettings } from "./options.js";
import { layersByName, outputsFor, type Outputs } from "./outputs.js";
import { planTables } from "./tables.js";

/** What will be made of a checkpoint, known from its headers alone. */
export interface Plan extends Outputs {
  /** Every linear of the decoder layers, in the order in which they are computed, and lm_head and the embedding if they are to be quantized. */
  readonly linears: readonly LinearPlan[];
  /** The group size that was chosen: −1 for one scale a row. */
  readonly groupSize: number;
  /** Linears of which something is asked by name. */
  readonly byName: ReadonlySet<string>;
  /** The bits of the linears that are quantized. */
  readonly mix: BitsMix;
  /** What the person should know before the work begins. */
  readonly notices: readonly string[];
}

/** A linear before it is decided what becomes of it. Linears of one `stage` share their input, and readers fuse them. */
interface Candidate {
  readonly name: string;
  readonly stage: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
}

/** Group sizes to choose from where a format has no others, the one with the fewest scales first. */
const GROUP_SIZES = [128, 64, 32];

/**
 * Decides for every linear whether and how it is quantized, and lays out the output.
 * @param model of an architecture that is not known any 2-D weight inside a numbered layer is a linear
 * @param surveyed what a survey chose for linears of which nothing is asked by name
 * Throws `InputError` where the format cannot hold such a run or this model, or nothing would be quantized.
 */
export function planRun(model: ModelFacts, settings: ResolvedSettings, format: Format, surveyed?: ReadonlyMap<string, Wish>): Plan {
  const { tensors, decoder } = model;
  const held = heldTogether(settings);
  const refusal = held.refusesModel(model);
  if (refusal !== undefined) throw new InputError(refusal);
  const candidates = candidatesOf(model);
  if (candidates.length === 0) throw new InputError("there is nothing to quantize: no layer has a two-dimensional float weight");
  const { of: byName, followers } = wishesOf(settings, candidates);
  const wishes = new Map([...(surveyed ?? []), ...byName]);
  if (settings.kQuant && !held.kQuants) throw new InputError("K-quants are for the format gguf by itself");
  for (const bits of new Set(candidates.map(({ name }) => wishes.get(name) ?? settings.bits))) {
    const why = bits === "keep" ? undefined : held.refusesRun({ ...settings, bits });
    if (why !== undefined) throw new InputError(why);
  }

  const sizes = sizesFor(settings, format);
  const trials = sizes.map((groupSize) => assign(candidates, groupSize, tensors, settings, held, wishes));
  // The first is the preferred size, and only a size that takes in more weights may replace it.
  const best = trials.reduce((most, trial) => (trial.quantized > most.quantized ? trial : most));
  if (best.quantized === 0) {
    const reasons = [...new Set(best.linears.map(({ why }) => why))].join("; ");
    throw new InputError(`there is nothing to quantize in the ${held.name} format: ${reasons}`);
  }
  const tables = planTables(decoder, settings, held, best.groupSize, (tensor) => modelDtype(tensors.get(tensor)!));
  const chosen = { ...best, linears: [...best.linears, ...tables] };

  return {
    linears: chosen.linears,
    groupSize: chosen.groupSize,
    ...outputsFor(model, chosen.linears, settings.order, format),
    byName: new Set(byName.keys()),
    mix: mixOf(chosen.linears.flatMap(({ scheme }) => (scheme === undefined ? [] : [scheme.bits]))),
    notices: [
      ...(settings.targetBits !== undefined && surveyed === undefined ? [`a survey chooses which linears get how many bits; until then all stand here with ${String(settings.bits)}`] : []),
      ...notices(chosen, trials[0], held, new Set(followers)),
      ...(settings.kQuant ? besideSuperBlocks(chosen.linears) : []),
    ],
  };
}

/** Counts numbers of bits. */
export function mixOf(all: readonly number[]): BitsMix {
  return [...new Set(all)].sort((a, b) => b - a).map((bits) => ({ bits, linears: all.filter((own) => own === bits).length }));
}

/** What a format's config is told of the run. */
export function formatRun(plan: Plan, settings: ResolvedSettings, decoder: Decoder | undefined, quantizer: string): FormatRun {
  return {
    linears: plan.linears,
    groupSize: plan.groupSize,
    bits: settings.bits,
    symmetric: settings.symmetric,
    method: settings.method,
    order: settings.order,
    damp: settings.damp,
    quantizer,
    lmHead: (decoder && lmHeadOf(decoder)?.name) ?? "lm_head",
  };
}

/** Group sizes to try: what is asked for and what is smaller, or what the format prefers. */
function sizesFor({ groupSize }: ResolvedSettings, format: Format): readonly number[] {
  if (groupSize === undefined) return format.groupSizes ?? GROUP_SIZES;
  return groupSize === -1 ? [-1] : GROUP_SIZES.filter((size) => size <= groupSize);
}

interface Trial {
  readonly groupSize: number;
  readonly linears: readonly LinearPlan[];
  /** How many weights would be quantized. */
  readonly quantized: number;
}

/** Why a linear stays as it is that was asked to. */
const KEPT = "it is to be kept";

function assign(
  candidates: readonly Candidate[],
  groupSize: number,
  tensors: ReadonlyMap<string, TensorSpec>,
  settings: ResolvedSettings,
  format: HeldTogether,
  wishes: ReadonlyMap<string, Wish>,
): Trial {
  const refusals = new Map<string, string>();
  const schemes = candidates.map((linear): QuantScheme | undefined => {
    const bits = wishes.get(linear.name) ?? settings.bits;
    if (bits === "keep") {
      refusals.set(linear.stage, KEPT);
      return undefined;
    }
    const scheme = format.schemeFor(linear, bits, groupSize, settings, modelDtype(tensors.get(`${linear.name}.weight`)!));
    const why = format.refusesLinear(linear, scheme);
    // One that must stay keeps its siblings back: readers fuse them into one matrix.
    if (why !== undefined && !refusals.has(linear.stage)) refusals.set(linear.stage, why);
    return scheme;
  });
  let quantized = 0;
  const linears = candidates.map(({ name, stage, outFeatures, inFeatures }, i): LinearPlan => {
    const why = refusals.get(stage);
    if (why !== undefined) return { name, outFeatures, inFeatures, why };
    quantized += outFeatures * inFeatures;
    return { name, outFeatures, inFeatures, scheme: schemes[i]! };
  });
  return { groupSize, linears, quantized };
}

function notices(chosen: Trial, first: Trial, format: HeldTogether, followers: ReadonlySet<string>): string[] {
  const told: string[] = [];
  if (chosen.groupSize !== first.groupSize) {
    const reasons = [...groupedBy(first.linears, ({ why }) => (why === undefined || why === KEPT ? [] : [why]))].map(([why, linears]) => `for ${kinds(linears)}: ${why}`);
    told.push(`groups of ${String(chosen.groupSize)} instead of ${String(first.groupSize)}, ${reasons.join("; ")}`);
  }
  for (const [why, linears] of groupedBy(chosen.linears, (linear) => (linear.why === undefined ? [] : [linear.why]))) {
    told.push(`left as they are: ${kinds(linears)}, because ${why}`);
  }
  const following = chosen.linears.filter(({ name }) => followers.has(name));
  if (following.length > 0) told.push(`treated like those that share their input, with which readers fuse them: ${kinds(following)}`);
  const quantized = chosen.linears.filter(({ scheme }) => scheme !== undefined);
  told.push(...format.runNotes(quantized.map(({ scheme }) => scheme!)).map(({ text }) => text));
  for (const [note, linears] of groupedBy(quantized, (linear) => format.notes(linear, linear.scheme!).map(({ text }) => text))) {
    // What holds for all of them needs no list of names.
    told.push(linears.length === quantized.length ? note : `${kinds(linears)}: ${note}`);
  }
  return told;
}

/** Says which linears have groups with offsets of their own, though super-blocks were asked for. */
function besideSuperBlocks(linears: readonly LinearPlan[]): string[] {
  const beside = linears.filter(({ scheme }) => scheme?.offsets === "float");
  return beside.length === 0 ? [] : [`Q4_1 instead of Q4_K: ${kinds(beside)}, because their input channels fill no whole super-blocks of 256`];
}

/** Linears by what there is to say of each, in order of appearance. */
function groupedBy(linears: readonly LinearPlan[], sayings: (linear: LinearPlan) => readonly string[]): Map<string, LinearPlan[]> {
  const groups = new Map<string, LinearPlan[]>();
  for (const linear of linears) for (const saying of sayings(linear)) groups.set(saying, [...(groups.get(saying) ?? []), linear]);
  return groups;
}

/** Names linears of many layers at once: model.layers.*.mlp.down_proj (30). */
function kinds(linears: readonly LinearPlan[]): string {
  const counts = new Map<string, number>();
  for (const { name } of linears) {
    const kind = kindOf(name);
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts].map(([kind, count]) => `${kind} (${String(count)})`).join(", ");
}

/** The linears of a model's layers, in the order in which they are computed. */
export function candidatesOf({ tensors, decoder }: ModelFacts): readonly Candidate[] {
  return decoder === undefined ? linearsByShape(tensors) : linearsOf(decoder);
}

function linearsOf(decoder: Decoder): Candidate[] {
  const all: Candidate[] = [];
  for (let layer = 0; layer < decoder.layers; layer += 1) {
    // Shapes do not depend on the number of positions.
    for (const { name: stage, linears } of decoder.stages(layer, 1)) {
      for (const linear of linears) all.push({ ...linear, stage: `${String(layer)} ${stage}` });
    }
  }
  return all;
}

/** Not linears, or such that no reader quantizes them: embeddings, norms, the routers of mixtures of experts, convolutions. */
const NOT_LINEAR = /embed|norm|\.(gate|router|shared_expert_gate|conv1d)\.weight$/;

function linearsByShape(tensors: ReadonlyMap<string, TensorSpec>): Candidate[] {
  const all: Candidate[] = [];
  for (const name of layersByName(tensors).flat()) {
    const { dtype, shape } = tensors.get(name)!;
    if (shape.length !== 2 || !name.endsWith(".weight") || NOT_LINEAR.test(name) || !FLOATS.has(dtype)) continue;
    const module = name.slice(0, -".weight".length);
    all.push({ name: module, stage: module, outFeatures: shape[0], inFeatures: shape[1] });
  }
  return all;
}

const FLOATS = new Set(["F64", "F32", "F16", "BF16"]);

export function modelDtype({ name, dtype }: TensorSpec): ScaleDtype {
  if (!FLOATS.has(dtype)) throw new InputError(`${name} is ${dtype}; only F64, F32, F16 and BF16 weights can be quantized`);
  return dtype === "F64" ? "F32" : (dtype as ScaleDtype);
}
