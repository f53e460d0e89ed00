import { InputError } from "../errors.js";
import type { Format, LinearPlan } from "../formats/format.js";
import { FORMATS } from "../formats/formats.js";
import { verdictsOf, type Verdict } from "../formats/verdicts.js";
import { byteSize } from "../safetensors/dtypes.js";
import { calibrationTokens, needsOf, type Needs } from "./estimate.js";
import { planRun, type Plan } from "./plan.js";
import { factsOf, laidOut, type PreparedRun } from "./prepare-run.js";

/** Linears that are alike: one module of every layer, treated in one way. */
export interface LinearKind {
  /** The module's name within its layer, as `self_attn.q_proj`. */
  readonly kind: string;
  readonly count: number;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** Absent: they stay as they are, and `why` says why. */
  readonly bits?: number;
  readonly groupSize?: number;
  readonly why?: string;
  /** Bytes of all of them before and after. */
  readonly before: number;
  readonly after: number;
}

/** Tensors that are not quantized: embeddings, norms, biases. */
export interface OtherTensors {
  readonly kind: string;
  readonly count: number;
  /** Bytes of all of them before and after: a format may keep them in another dtype, or leave them out. */
  readonly before: number;
  readonly after: number;
}

/** What a format would make of the same run. */
export interface FormatOverview {
  readonly format: string;
  /** It cannot hold such a run, and this is why; the fields that follow are then absent. */
  readonly refusal?: string;
  readonly bytes?: number;
  readonly bitsPerWeight?: number;
  readonly programs?: readonly Verdict[];
}

/** Everything that is known of a run before its work begins, from headers alone. */
export interface Overview {
  readonly source: string;
  /** transformers' `model_type`; absent if config.json has none. */
  readonly modelType?: string;
  /** Absent for an architecture that is not known, which can only be rounded. */
  readonly layers?: number;
  readonly parameters: number;
  readonly linears: readonly LinearKind[];
  readonly others: readonly OtherTensors[];
  /** The weights come from a Hub, and this many bytes of them. */
  readonly download?: number;
  readonly sourceBytes: number;
  readonly bytes: number;
  readonly shards: readonly { readonly file: string; readonly size: number }[];
  readonly bitsPerWeight: number;
  readonly groupSize: number;
  /** Calibration tokens that are asked for; 0 for `rtn`. */
  readonly calibrationTokens: number;
  readonly needs: Needs;
  /** Each format that can be written, the chosen one first. */
  readonly formats: readonly FormatOverview[];
  readonly notices: readonly string[];
}

/** Describes a prepared run. @param threads that will compute */
export async function overviewOf(run: PreparedRun, threads: number): Promise<Overview> {
  const { checkpoint, decoder, plan, sourceBytes, bytes, shards, settings } = run;
  const { model_type: type } = checkpoint.config;
  const others = [...FORMATS].filter(({ name }) => name !== settings.format);
  return {
    source: checkpoint.source.label,
    ...(typeof type === "string" && { modelType: type }),
    ...(decoder && { layers: decoder.layers }),
    parameters: [...checkpoint.tensors.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    linears: kindsOf(run), others: othersOf(run),
    ...(checkpoint.source.hub && { download: sourceBytes }),
    sourceBytes, bytes, shards: shards.map(({ file, size }) => ({ file, size })),
    bitsPerWeight: plan.bitsPerWeight, groupSize: plan.groupSize,
    calibrationTokens: calibrationTokens(run).tokens,
    needs: needsOf(run, threads),
    formats: [inFormat(run, settings.format, plan, bytes), ...(await Promise.all(others.map((format) => otherFormat(run, format))))],
    notices: plan.notices,
  };
}

function inFormat({ decoder }: PreparedRun, format: string, plan: Plan, bytes: number): FormatOverview {
  return { format, bytes, bitsPerWeight: plan.bitsPerWeight, programs: verdictsOf(FORMATS.find(({ name }) => name === format)!, plan.linears, decoder !== undefined) };
}

async function otherFormat(run: PreparedRun, format: Format): Promise<FormatOverview> {
  const { format: first, alsoIn } = run.settings;
  // One that the run is for as well has the same scheme; any other, that of a run for itself.
  const settings = { ...run.settings, format: format.name, alsoIn: alsoIn.includes(format.name) ? [first, ...alsoIn.filter((name) => name !== format.name)] : [] };
  try {
    const { plan, bytes } = await laidOut({ ...run, settings, plan: planRun(factsOf(run), settings, format) }, format);
    return inFormat(run, format.name, plan, bytes);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return { format: format.name, refusal: error.message };
  }
}

/** Bytes of what a tensor of the source becomes. */
function bytesAfter(plan: Plan): (tensor: string) => number {
  const sizes = new Map(plan.outputs.map((spec) => [spec.name, byteSize(spec.dtype, spec.shape)]));
  return (tensor) => plan.outputsOf.get(tensor)!.reduce((sum, name) => sum + sizes.get(name)!, 0);
}

function kindsOf({ checkpoint, plan }: PreparedRun): LinearKind[] {
  const afterOf = bytesAfter(plan);
  const kinds = new Map<string, LinearKind>();
  for (const linear of plan.linears) {
    const tensor = `${linear.name}.weight`;
    const { start, end } = checkpoint.tensors.get(tensor)!;
    const own = kindOf(linear);
    const key = JSON.stringify(own);
    const { count, before, after } = kinds.get(key) ?? { count: 0, before: 0, after: 0 };
    kinds.set(key, {
      ...own, count: count + 1, before: before + end - start,
      after: after + afterOf(tensor),
    });
  }
  return [...kinds.values()];
}

function kindOf({ name, outFeatures, inFeatures, scheme, why }: LinearPlan): Omit<LinearKind, "count" | "before" | "after"> {
  return { kind: withinLayer(name), outFeatures, inFeatures, ...(scheme && { bits: scheme.bits, groupSize: scheme.groupSize }), ...(why !== undefined && { why }) };
}

function othersOf({ checkpoint, plan }: PreparedRun): OtherTensors[] {
  const linears = new Set(plan.linears.map(({ name }) => `${name}.weight`));
  const afterOf = bytesAfter(plan);
  const kinds = new Map<string, OtherTensors>();
  for (const [name, { shape, start, end }] of checkpoint.tensors) {
    if (linears.has(name)) continue;
    const kind = shape.length > 1 ? withinLayer(name.replace(/\.weight$/, "")) : "norms and biases";
    const { count, before, after } = kinds.get(kind) ?? { count: 0, before: 0, after: 0 };
    kinds.set(kind, { kind, count: count + 1, before: before + end - start, after: after + afterOf(name) });
  }
  return [...kinds.values()].sort((a, b) => b.before - a.before);
}

/** A module's name without the number of its layer and what comes before. */
export function withinLayer(name: string): string {
  return name.replace(/^.*?\.\d+\./, "");
}
