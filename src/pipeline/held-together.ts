import type { Format, ModelFacts } from "../formats/format.js";
import { formatByName } from "../formats/formats.js";
import { BITS, type Bits, type QuantScheme, type ScaleDtype } from "../quantize/scheme.js";
import type { ResolvedSettings } from "./options.js";
import { commonScheme, schemeFor } from "./scheme-for.js";

/** What all formats of a run hold alike: what one of them refuses, all do. */
export interface HeldTogether extends Pick<Format, "name" | "bits" | "refusesRun" | "refusesLinear" | "notes" | "runNotes"> {
  readonly embeddings: boolean;
  readonly kQuants: boolean;
  refusesModel(model: ModelFacts): string | undefined;
  /** See `schemeFor`. */
  schemeFor(linear: { readonly inFeatures: number }, bits: Bits, groupSize: number, settings: Pick<ResolvedSettings, "symmetric" | "kQuant">, modelDtype: ScaleDtype): QuantScheme;
}

/** The formats that a run's result is wanted in, taken together. Throws `InputError` for one that there is not. */
export function heldTogether({ format, alsoIn }: Pick<ResolvedSettings, "format" | "alsoIn">): HeldTogether {
  const first = formatByName(format);
  const others = alsoIn.map(formatByName);
  const all = [first, ...others];
  const refusal = (ask: (one: Format) => string | undefined): string | undefined => all.map(ask).find((why) => why !== undefined);
  return {
    name: all.map(({ name }) => name).join(", "),
    bits: BITS.filter((bits) => all.every((one) => one.bits.includes(bits))),
    embeddings: all.every(({ embeddings }) => embeddings === true),
    kQuants: all.every(({ kQuants }) => kQuants === true),
    refusesModel: (model) => refusal(({ container }) => container?.refusesModel(model)),
    refusesRun: (run) => refusal((one) => one.refusesRun(run)),
    refusesLinear: (linear, scheme) => refusal((one) => one.refusesLinear(linear, scheme)),
    notes: (linear, scheme) => all.flatMap((one) => one.notes(linear, scheme)),
    runNotes: (schemes) => all.flatMap((one) => one.runNotes(schemes)),
    schemeFor(linear, bits, groupSize, settings, modelDtype) {
      const own = (one: Format): QuantScheme => schemeFor(one, linear, bits, groupSize, settings, modelDtype);
      return commonScheme([own(first), ...others.map(own)]);
    },
  };
}
