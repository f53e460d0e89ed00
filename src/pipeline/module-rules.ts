import { InputError } from "../errors.js";
import type { Bits } from "../quantize/scheme.js";

/** Bits for the linears whose names match. */
export interface BitsRule {
  /** A module name in which `*` stands for anything: `*.down_proj`, `model.layers.0.*`. */
  readonly pattern: string;
  readonly bits: Bits;
}

/** What is asked of single linears by name. */
export interface ModuleRules {
  /** Patterns of linears that stay as they are, whatever `bitsFor` says of them. */
  readonly keep: readonly string[];
  /** Of several that match, the last counts. */
  readonly bitsFor: readonly BitsRule[];
}

/** What is asked of one linear: its bits, or that it stay as it is. */
export type Wish = Bits | "keep";

export interface Wishes {
  /** By module name; linears of which nothing is asked are not in it. */
  readonly of: ReadonlyMap<string, Wish>;
  /** Linears that match no rule, or another one, and follow siblings with which readers fuse them. */
  readonly followers: readonly string[];
}

/**
 * Applies rules to linears. Those of one `stage` are treated alike: they all get the most that is asked for one of them.
 * Throws `InputError` naming a pattern that matches nothing, and some names that there are.
 */
export function wishesOf(rules: ModuleRules, linears: readonly { readonly name: string; readonly stage: string }[]): Wishes {
  const asked = new Map<string, Wish>();
  const all: (BitsRule | { readonly pattern: string; readonly bits: "keep" })[] = [...rules.bitsFor, ...rules.keep.map((pattern) => ({ pattern, bits: "keep" as const }))];
  for (const { pattern, bits } of all) {
    const regex = regexOf(pattern);
    const matching = linears.filter(({ name }) => regex.test(name));
    if (matching.length === 0) {
      const option = bits === "keep" ? "keep" : "bits for";
      throw new InputError(`${option} ${JSON.stringify(pattern)} matches none of the linears that would be quantized; they are called ${examples(linears)}`);
    }
    for (const { name } of matching) asked.set(name, bits);
  }
  const most = new Map<string, Wish>();
  for (const { name, stage } of linears) {
    const wish = asked.get(name);
    if (wish !== undefined) most.set(stage, larger(wish, most.get(stage)));
  }
  const of = new Map<string, Wish>();
  const followers: string[] = [];
  for (const { name, stage } of linears) {
    const wish = most.get(stage);
    if (wish === undefined) continue;
    of.set(name, wish);
    if (asked.get(name) !== wish) followers.push(name);
  }
  return { of, followers };
}

function larger(a: Wish, b: Wish | undefined): Wish {
  if (b === undefined || a === "keep") return a;
  return b === "keep" ? b : (Math.max(a, b) as Bits);
}

function regexOf(pattern: string): RegExp {
  // Neighbouring stars say no more than one, and would cost far more.
  const parts = pattern.split(/\*+/).map((part) => part.replaceAll(/[.\\^$+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}

/** The name of such linears of every layer: model.layers.*.mlp.down_proj. */
export function kindOf(name: string): string {
  return name.replace(/\.\d+\./, ".*.");
}

/** Names to recognise the model's by: one of each kind, up to seven. */
function examples(linears: readonly { readonly name: string }[]): string {
  const kinds = new Map<string, string>();
  for (const { name } of linears) {
    const kind = kindOf(name);
    if (!kinds.has(kind)) kinds.set(kind, name);
  }
  const names = [...kinds.values()];
  return `${names.slice(0, 7).join(", ")}${names.length > 7 ? ", …" : ""}`;
}
