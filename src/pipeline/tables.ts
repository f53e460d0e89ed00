import { InputError } from "../errors.js";
import type { Format, LinearPlan } from "../formats/format.js";
import type { Decoder } from "../model/decoder.js";
import { lmHeadOf } from "../model/head.js";
import type { ScaleDtype } from "../quantize/scheme.js";
import type { ResolvedSettings } from "./options.js";
import { schemeFor } from "./scheme-for.js";

/**
 * Plans lm_head, where it is to be quantized; it gets the group size of the other linears. Throws `InputError` where the model or the
 * format has none that could be: it was asked for by name, and to leave it would be no answer.
 * @param modelDtype of a tensor, by name
 */
export function planLmHead(
  decoder: Decoder | undefined, settings: ResolvedSettings, format: Format, groupSize: number, modelDtype: (tensor: string) => ScaleDtype,
): LinearPlan | undefined {
  const { lmHead: bits, symmetric } = settings;
  if (bits === undefined) return undefined;
  if (decoder === undefined) throw new InputError("lm_head can be quantized only in architectures that Shardsmith knows");
  const linear = lmHeadOf(decoder);
  if (linear === undefined) {
    throw new InputError("lm_head cannot be quantized: this model has none of its own, its embedding serves as lm_head (tie_word_embeddings). Leave it as it is");
  }
  const scheme = schemeFor(format, linear, bits, groupSize, symmetric, modelDtype(decoder.lmHead.tensor));
  const refusal = format.refusesRun({ ...settings, bits }) ?? format.refusesLinear(linear, scheme);
  if (refusal !== undefined) throw new InputError(`lm_head cannot be quantized in the ${format.name} format: ${refusal}`);
  return { ...linear, scheme };
}
