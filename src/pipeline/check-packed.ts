import { InputError } from "../errors.js";
import { formatByName } from "../formats/formats.js";
import type { PackedFormat } from "../formats/format.js";
import { checkShapes } from "../model/check-shapes.js";
import type { Decoder, LinearSpec } from "../model/decoder.js";
import { embeddingOf, lmHeadOf } from "../model/head.js";
import { CHECKPOINT_GROUP_SIZES, type Bits, type QuantScheme } from "../quantize/scheme.js";
import type { Weights } from "./open-weights.js";
import { packedLinears } from "./packed-linears.js";

/**
 * Checks, from headers and config.json alone, that a checkpoint has all that its decoder needs: plain tensors in the shapes that config.json implies, and packed
 * linears in those that their format gives such a linear. Throws `InputError` naming the tensor, or the setting that none of the tensors bears out.
 * @returns the packed linears, by the name of the weight that each stands for
 */
export function checkPacked(weights: Weights, decoder: Decoder): ReadonlyMap<string, LinearSpec> {
  const { checkpoint: { tensors, source: { label } }, packed } = weights;
  const { parts } = packedLinears(weights);
  const linears = new Map(linearsIn(decoder).filter(({ name }) => parts.has(name)).map((linear) => [`${linear.name}.weight`, linear]));
  const shapes = new Map([...linears].map(([weight, { outFeatures, inFeatures }]) => [weight, { shape: [outFeatures, inFeatures] }]));
  checkShapes(decoder, new Map<string, { readonly shape: readonly number[] }>([...tensors, ...shapes]), label);
  if (packed === undefined || linears.size === 0) return linears;

  const found = [...linears.values()].map((linear) => {
    const own = new Map([...parts.get(linear.name)!].map(([suffix, name]) => [suffix, tensors.get(name)!.shape]));
    const scheme = schemeOf(packed, linear, own);
    if (scheme === undefined) throw new InputError(`${label}: ${linear.name} is no linear [${linear.outFeatures}, ${linear.inFeatures}], as config.json implies: ${[...own].map(([suffix, shape]) => `its ${suffix} has shape [${shape.join(", ")}]`).join(", ")}`);
    return { ...scheme, rows: scheme.groupSize === linear.inFeatures };
  });
  const { bits, groupSize } = packed;
  if (!found.some((scheme) => scheme.bits === bits)) throw new InputError(`${label}/config.json says ${String(bits)} bits, but its packed linears have ${listed(found.map((scheme) => scheme.bits))}`);
  if (!found.some((scheme) => scheme.groupSize === groupSize || (groupSize === -1 && scheme.rows))) {
    throw new InputError(`${label}/config.json says ${groupSize === -1 ? "one group a row" : `groups of ${String(groupSize)}`}, but its packed linears have groups of ${listed(found.map((scheme) => scheme.groupSize))}`);
  }
  return linears;
}

/** Everything of a decoder that may be packed: the linears of its layers, lm_head and the embedding. */
function linearsIn(decoder: Decoder): LinearSpec[] {
  const inLayers = Array.from({ length: decoder.layers }, (_, layer) => decoder.stages(layer, 1).flatMap(({ linears }) => linears)).flat();
  const lmHead = lmHeadOf(decoder);
  return [...inLayers, ...(lmHead === undefined ? [] : [lmHead]), embeddingOf(decoder)];
}

/** A scheme with which a linear would have tensors of these shapes, the config's own if that is one; undefined if there is none. */
function schemeOf(packed: PackedFormat, linear: LinearSpec, shapes: ReadonlyMap<string, readonly number[]>): QuantScheme | undefined {
  const { groupSize, symmetric } = packed;
  const format = formatByName(packed.format);
  const bits = packed.bitsOf(shapes) as Bits;
  const said = groupSize === -1 ? linear.inFeatures : groupSize;
  const sizes = [said, ...CHECKPOINT_GROUP_SIZES, linear.inFeatures].filter((size) => linear.inFeatures % size === 0);
  for (const size of sizes) {
    for (const kind of [{ symmetric }, { symmetric: !symmetric }, { symmetric: false, offsets: "float" }, { symmetric: false, offsets: "super-block" }] as const) {
      const scheme: QuantScheme = { bits, groupSize: size, scaleDtype: "F32", ...kind };
      if (format.refusesRun({ ...scheme, order: "natural", table: true }) !== undefined) continue;
      const specs = new Map(format.layout(linear.name, linear, scheme, "natural").map(({ name, shape }) => [name.slice(linear.name.length + 1), shape.join()]));
      if ([...shapes].every(([suffix, shape]) => specs.get(suffix) === shape.join())) return scheme;
    }
  }
  return undefined;
}

/** "4 and 8" */
function listed(values: readonly number[]): string {
  return [...new Set(values)].sort((a, b) => a - b).join(" and ");
}
