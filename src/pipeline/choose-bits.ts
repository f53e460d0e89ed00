import { InputError } from "../errors.js";
import type { LinearPlan } from "../formats/format.js";
import { formatByName } from "../formats/formats.js";
import { embeddingOf, lmHeadOf } from "../model/head.js";
import { allocate } from "../quantize/allocate.js";
import type { Bits, QuantScheme } from "../quantize/scheme.js";
import { byteSize } from "../safetensors/dtypes.js";
import type { StoredTensor } from "../source/checkpoint.js";
import { heldTogether } from "./held-together.js";
import type { Wish } from "./module-rules.js";
import { modelDtype } from "./plan.js";
import type { PreparedRun } from "./prepare-run.js";
import type { SurveyedGroup } from "./survey-stage.js";
import type { Survey } from "./survey.js";

/** What is to become of the linears between which there was a choice. */
export interface BitsChoice {
  /** By module name. */
  readonly wishes: ReadonlyMap<string, Wish>;
  /** Their bits a weight, scales and all; those that stay as they are with the bits that they have. */
  readonly bitsPerWeight: number;
  /** KL divergence, in nats, to be expected of rounding to nearest; better methods leave a share of it. */
  readonly divergence: number;
}

/**
 * KL divergence to be expected once a group is rounded to so many bits: what was seen at the survey's bits, as the squared error of the
 * outputs grows or shrinks. 16 bits and more leave nothing.
 */
export function expectedDivergence({ divergence, errors }: SurveyedGroup, wish: Wish): number {
  return wish === "keep" ? 0 : divergence * errors.find(({ bits }) => bits === wish)!.ratio;
}

/**
 * Spends a budget of bits where they count: for each group of linears that share an input, the bits (of those that the format holds) or
 * to stay as they are, so that the expected divergences, which for small errors add up, add up to the least.
 * Linears of which something is asked by name keep to that, and their bits count; those that stay by name, or because the format
 * cannot hold them, are no part of it. The target is one that `checkTarget` allows.
 */
export function chooseBits(run: Prepared, survey: Survey, target: number): BitsChoice {
  const offers = offersOf(run);
  const plans = new Map(run.plan.linears.map((linear) => [linear.name, linear]));
  const groups = survey.groups.map((group) => {
    const linears = group.linears.map(({ name }) => plans.get(name)!);
    const options = offers.wishesFor(linears[0]).filter((wish) => linears.every((linear) => offers.wishesFor(linear).includes(wish)));
    return {
      names: linears.map(({ name }) => name),
      weights: linears.reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, 0),
      choices: options.map((wish) => ({ wish, cost: linears.reduce((sum, linear) => sum + offers.costOf(linear, wish), 0), loss: expectedDivergence(group, wish) })),
    };
  });
  const weights = groups.reduce((sum, group) => sum + group.weights, 0);
  const picks = allocate(groups.map(({ choices }) => choices), target * weights);
  if (picks === undefined) throw new Error("a target below the least was not refused");
  const picked = groups.map(({ names, choices }, i) => ({ names, ...choices[picks[i]] }));
  return {
    wishes: new Map(picked.flatMap(({ names, wish }) => names.map((name): [string, Wish] => [name, wish]))),
    bitsPerWeight: picked.reduce((sum, { cost }) => sum + cost, 0) / weights,
    divergence: picked.reduce((sum, { loss }) => sum + loss, 0),
  };
}

/** Throws `InputError` where not even the fewest bits fit the target; known from headers alone. */
export function checkTarget(run: Prepared, target: number): void {
  const offers = offersOf(run);
  // lm_head and the embedding have bits of their own.
  const tables = run.decoder === undefined ? [] : [lmHeadOf(run.decoder)?.name, embeddingOf(run.decoder).name];
  const linears = run.plan.linears.filter(({ name, scheme }) => scheme !== undefined && !tables.includes(name));
  const weights = linears.reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, 0);
  const least = linears.reduce((sum, linear) => sum + Math.min(...offers.wishesFor(linear).map((wish) => offers.costOf(linear, wish))), 0) / weights;
  if (target < least) {
    throw new InputError(`target bits is ${String(target)}; these linears take at least ${(Math.ceil(100 * least) / 100).toFixed(2)} bits a weight in the ${run.settings.format} format, scales and all`);
  }
}

type Prepared = Pick<PreparedRun, "checkpoint" | "decoder" | "settings" | "plan">;

/** What a run's formats can make of its linears, and what it costs. */
function offersOf({ checkpoint, settings, plan }: Prepared) {
  const held = heldTogether(settings);
  const format = formatByName(settings.format);
  const weightOf = ({ name }: LinearPlan): StoredTensor => checkpoint.tensors.get(`${name}.weight`)!;
  const schemeAt = (linear: LinearPlan, bits: Bits): QuantScheme => held.schemeFor(linear, bits, plan.groupSize, settings, modelDtype(weightOf(linear)));
  return {
    /** What may be made of a linear. */
    wishesFor(linear: LinearPlan): Wish[] {
      if (plan.byName.has(linear.name)) return [linear.scheme!.bits];
      const bits = held.bits.filter((own) => held.refusesRun({ ...settings, bits: own }) === undefined && held.refusesLinear(linear, schemeAt(linear, own)) === undefined);
      return [...bits, "keep"];
    },
    /** Its bits then, all tensors counted. */
    costOf(linear: LinearPlan, wish: Wish): number {
      const { start, end } = weightOf(linear);
      if (wish === "keep") return 8 * (end - start);
      const specs = format.layout(linear.name, linear, schemeAt(linear, wish), settings.order);
      return 8 * specs.reduce((sum, { dtype, shape }) => sum + byteSize(dtype, shape), 0);
    },
  };
}
