import { realpath } from "node:fs/promises";
import { InputError } from "../errors.js";
import type { Source } from "../source/source.js";

/** A checkpoint is not to be written over the one that it is made of. */
export async function refuseSource(source: Source, path: string, output: string): Promise<void> {
  if (source.hub === undefined && (await realpath(path)) === (await realpath(output))) throw new InputError(`${output} is the source itself; choose another output folder`);
}
