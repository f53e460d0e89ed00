import { InputError } from "../errors.js";
import type { Wish } from "./module-rules.js";
import type { LinearReport } from "../report/report.js";
import type { KeptRange } from "../source/kept-source.js";

/**
 * What a run is: two runs of equal identity give equal bytes. Values are compared one by one, so that a refusal can say which
 * differ. Where a source's folder lies, and how much memory may be used, is no part of it; a Hub's
 * repo and commit are.
 */
export type RunIdentity = Readonly<Record<string, string | number | boolean>>;

/** One line of the journal: what is finished and would survive a power cut. */
export type JournalEntry =
  | { readonly run: RunIdentity }
  /** The tensors outside the layers (−1) or those of a layer are in their shards; the hidden states after it are in files, one a stream. */
  | { readonly layer: number; readonly linears: readonly LinearReport[]; readonly hidden?: readonly { readonly file: string; readonly size: number; readonly sha256: string }[] }
  /** What a survey chose, by module name, so that a run that is taken up again is the same run. */
  | { readonly choice: Readonly<Record<string, Wish>> }
  /** What it read of a Hub is in a file. */
  | { readonly kept: { readonly size: number; readonly sha256: string; readonly ranges: readonly KeptRange[] } }
  | { readonly shard: string; readonly size: number; readonly sha256: string }
  /** A Hub's repo has confirmed this shard, which may be gone from the output since. */
  | { readonly pushed: string; readonly to: string };

export function parseJournal(lines: readonly string[], label: string): JournalEntry[] {
  return lines.map((line, i) => {
    try {
      return JSON.parse(line) as JournalEntry;
    } catch {
      throw new InputError(`${label}: line ${String(i + 1)} of the journal is damaged; use --overwrite to start anew`);
    }
  });
}

/** Throws `InputError` saying in which values a run that is asked for differs from the one that stands in the folder. */
export function checkSameRun(asked: RunIdentity, found: RunIdentity, label: string): void {
  const names = [...new Set([...Object.keys(found), ...Object.keys(asked)])];
  const differing = names.filter((name) => asked[name] !== found[name]);
  if (differing.length === 0) return;
  const changes = differing.map((name) => `${name} was ${String(found[name] ?? "absent")}, now ${String(asked[name] ?? "absent")}`);
  throw new InputError(`${label} holds another run: ${changes.join("; ")}. Repeat its options to go on with it, choose another folder, or use --overwrite`);
}
