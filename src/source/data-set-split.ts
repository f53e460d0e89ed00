import { InputError } from "../errors.js";
import type { DataSetAddress } from "./data-set-address.js";

/** Names of files that hold records, one a line or as a table. */
export const RECORD_FILES = /\.(?:parquet|jsonl|ndjson|json|jsonl\.gz|ndjson\.gz|json\.gz)$/;

/** Files that describe a data set and hold none of it. */
const DESCRIPTIONS = /(?:^|\/)(?:dataset_infos?|dataset_dict|state|config|metadata|croissant)\.json$/;

/** What stands in a path for a split, beside names that are chosen at will. */
const SPLITS = /^(?:partial-)?(?:train|test|validation|valid|val|dev|eval)(?![A-Za-z])/;

/**
 * The files of one split, by the names that data sets on the Hub have: a config is a folder, a split is a folder or what a file's name begins
 * with. Without a split it is `train`, where there is one, and else everything. Throws `InputError` where there is no such config
 * or split, or several configs and none is named.
 */
export function filesOfSplit(paths: Iterable<string>, { config, split }: Pick<DataSetAddress, "config" | "split">, label: string): string[] {
  const records = [...paths].filter((path) => RECORD_FILES.test(path) && !DESCRIPTIONS.test(path));
  if (records.length === 0) {
    throw new InputError(`${label}: has no Parquet or JSONL files (.parquet, .jsonl, .json, .jsonl.gz, .json.gz); the Hub's own conversion, where there is one, is ${label.replace(/@.*/, "")}@refs%2Fconvert%2Fparquet`);
  }
  const configs = new Map<string, string[]>();
  for (const path of records) configs.set(configOf(path), [...(configs.get(configOf(path)) ?? []), path]);
  const names = [...configs.keys()].filter((name) => name !== "").sort();
  const meant = config ?? (configs.has("default") ? "default" : configs.size === 1 ? [...configs.keys()][0] : undefined);
  if (meant === undefined) {
    throw new InputError(`${label}: holds several configs; choose one, as ${label.replace(/@.*/, "")}:${names[0]} (${names.join(", ")})`);
  }
  const chosen = configs.get(meant);
  if (chosen === undefined) throw new InputError(`${label}: has no config ${JSON.stringify(meant)}${names.length > 0 ? `; there are ${names.join(", ")}` : ""}`);
  const wanted = split ?? "train";
  const exact = chosen.filter((path) => isOfSplit(path, wanted));
  if (exact.length > 0) return exact;
  // `train` is meant by `train_sft` as well, where nothing is called `train`.
  const alike = split === undefined ? chosen.filter((path) => isOfSplit(path, wanted, "_")) : [];
  if (alike.length > 0) return alike;
  if (split === undefined) return chosen;
  throw new InputError(`${label}: has no split ${JSON.stringify(split)}; its files are ${listed(chosen)}`);
}

/** The folders that a file lies in, but for those that say nothing of its kind. */
function configOf(path: string): string {
  return path.split("/").slice(0, -1).filter((folder) => folder !== "data" && !SPLITS.test(folder)).join("/");
}

/** Whether a folder is called so, or a file's name has it as a word. `after`: what may follow it beside the ends of words. */
function isOfSplit(path: string, split: string, after = ""): boolean {
  const folders = path.split("/");
  const file = folders.pop()!;
  const word = new RegExp(`(?:^|[-._])${split.replace(/[.*+?^\${}()|[\]\\]/g, "\\$&")}(?:[-.${after}]|$)`);
  // The Hub's own conversion of large sets breaks off, and says so.
  return folders.includes(split) || folders.includes(`partial-${split}`) || word.test(file);
}

function listed(paths: readonly string[]): string {
  return paths.slice(0, 5).join(", ") + (paths.length > 5 ? ` and ${String(paths.length - 5)} more` : "");
}
