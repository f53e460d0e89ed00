import type { RecordField } from "../calibration/documents.js";

/** A data set on the Hub that has a name here, as calibration-data/data-sets.json lists it. */
export interface NamedDataSet {
  readonly name: string;
  /** On the Hub. */
  readonly repo: string;
  /** Which of its files: `*` stands for anything but a slash, `{a,b}` for one of several. */
  readonly files: readonly string[];
  /** Those that nobody calibrates or trains on, to measure on. */
  readonly heldOut?: readonly string[];
  /** The folder that all of them lie in, so that the others need not be listed. */
  readonly folder?: string;
  readonly field: RecordField;
  /** For tables that hold a line a row: a regular expression that the first line of a document matches. */
  readonly begins?: string;
  /** How many files are drawn from in turn, where each is of another kind. */
  readonly together?: number;
  readonly licence: string;
  /** What it is, in a line. */
  readonly about: string;
}

/** Whether a path is one that a pattern means. */
export function matches(pattern: string, path: string): boolean {
  const source = pattern.replace(/[.+^$()|[\]\\]/g, "\\$&").replaceAll("*", "[^/]*").replace(/\{([^}]*)\}/g, (_, any: string) => `(?:${any.replaceAll(",", "|")})`);
  return new RegExp(`^${source}$`).test(path);
}
