import type { Format, LinearPlan, Note, Program } from "./format.js";

/** Whether a program loads a checkpoint, and what there is to know of it. */
export interface Verdict {
  readonly program: Program;
  /** `perhaps`: not known to fail, but one of its kernels refuses some linears. */
  readonly loads: "yes" | "perhaps" | "no";
  /** Sentences that name the program; those of a refusal alone, where it refuses. */
  readonly why: readonly string[];
}

/**
 * What each program that reads the format will make of these linears. A program that is not named does not read it.
 * @param known the architecture is one that Shardsmith computes itself, and that all these programs have; of others nobody here can tell
 */
export function verdictsOf(format: Format, linears: readonly LinearPlan[], known: boolean): Verdict[] {
  const quantized = linears.flatMap((linear) => (linear.scheme === undefined ? [] : [{ ...linear, scheme: linear.scheme }]));
  const notes = [...format.runNotes(quantized.map(({ scheme }) => scheme)), ...quantized.flatMap((linear) => format.notes(linear, linear.scheme))];
  return format.programs.map((program) => {
    const own = notes.filter((note) => note.program === program);
    const worst = (["no", "perhaps", "so"] as const).find((loads) => own.some((note) => note.loads === loads));
    const why = textsOf(own.filter(({ loads }) => loads === worst || worst !== "no"));
    if (worst === "no") return { program, loads: worst, why };
    if (!known) return { program, loads: "perhaps", why: [`${program} may or may not take this architecture: Shardsmith does not know it`, ...why] };
    return { program, loads: worst === "perhaps" ? worst : "yes", why };
  });
}

function textsOf(notes: readonly Note[]): string[] {
  return [...new Set(notes.map(({ text }) => text))];
}
