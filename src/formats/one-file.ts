import { InputError } from "../errors.js";
import type { ModelFolder } from "./format.js";

/** The only file of a folder whose path matches; undefined if there is none, `InputError` naming them if there are several. */
export function oneFile({ files, label }: ModelFolder, path: RegExp): string | undefined {
  const found = [...files.keys()].filter((name) => path.test(name));
  if (found.length > 1) throw new InputError(`${label}: holds several models, ${found.join(" and ")}; put the one that is meant into a folder of its own, with config.json and the tokenizer`);
  return found[0];
}
