import { InputError } from "../errors.js";
import type { LinearPlan } from "../formats/format.js";
import type { Decoder, LinearSpec } from "../model/decoder.js";
import { embeddingOf, lmHeadOf } from "../model/head.js";
import type { Bits, ScaleDtype } from "../quantize/scheme.js";
import type { HeldTogether } from "./held-together.js";
import type { ResolvedSettings } from "./options.js";

/**
 * Plans lm_head and the embedding, where they are to be quantized; they get the group size of the other linears. Throws `InputError` where the
 * model or the format has none that could be: it was asked for by name, and to leave it would be no answer.
 * @param modelDtype of a tensor, by name
 */
export function planTables(
  decoder: Decoder | undefined, settings: ResolvedSettings, format: HeldTogether, groupSize: number, modelDtype: (tensor: string) => ScaleDtype,
): LinearPlan[] {
  const planned: LinearPlan[] = [];
  const plan = (what: string, bits: Bits, tableOf: (known: Decoder) => LinearSpec): void => {
    if (decoder === undefined) throw new InputError(`${what} can be quantized only in architectures that Shardsmith knows`);
    const table = tableOf(decoder);
    const scheme = format.schemeFor(table, bits, groupSize, settings, modelDtype(`${table.name}.weight`));
    const refusal = format.refusesRun({ ...settings, bits, table: true }) ?? format.refusesLinear(table, scheme);
    if (refusal !== undefined) throw new InputError(`${what} cannot be quantized in the ${format.name} format: ${refusal}`);
    planned.push({ ...table, scheme });
  };
  if (settings.lmHead !== undefined) plan("lm_head", settings.lmHead, ownHeadOf);
  if (settings.embeddings !== undefined) {
    if (!format.embeddings) throw new InputError(`embeddings cannot be quantized in the ${format.name} format: its readers take them as they are`);
    plan("the embedding", settings.embeddings, embeddingOf);
  }
  return planned;
}

function ownHeadOf(decoder: Decoder): LinearSpec {
  const linear = lmHeadOf(decoder);
  if (linear !== undefined) return linear;
  throw new InputError("lm_head cannot be quantized: this model has none of its own, its embedding serves as lm_head (tie_word_embeddings). Leave it as it is");
}
