import { InputError } from "../errors.js";
import { isJsonObject, parseJsonObject, quote } from "./json.js";

/** The index of a sharded checkpoint, as transformers writes it. */
export const INDEX_FILE = "model.safetensors.index.json";

/** Tensor names are most of it, as of a header: no more of them than the largest header could hold. */
export const MAX_INDEX_BYTES = 100_000_000;

/** Index, weight_map: two levels. Some writers put objects into `metadata`, which we do not read. */
const MAX_INDEX_DEPTH = 16;

/**
 * Reads `weight_map`: tensor name → file. `file` names the index in messages. Every value must be a plain file name ending in .safetensors: no
 * folder, no way out of the checkpoint. Anything else is an `InputError`.
 */
export function parseIndex(bytes: Uint8Array, file: string): ReadonlyMap<string, string> {
  const { weight_map: map } = parseJsonObject(bytes, file, MAX_INDEX_DEPTH);
  if (!isJsonObject(map)) throw new InputError(`${file}: weight_map is missing or not an object`);
  const entries = Object.entries(map);
  if (entries.length === 0) throw new InputError(`${file}: weight_map is empty`);
  for (const [name, shard] of entries) {
    if (typeof shard !== "string" || !/^[^/\\:\0]+\.safetensors$/.test(shard)) {
      throw new InputError(
        `${file}: tensor ${quote(name)} is said to be in ${quote(shard)}; it must be the plain name of a .safetensors file beside the index`,
      );
    }
  }
  return new Map(entries as [string, string][]);
}

/**
 * Holds an index to what the shards' headers say (`shards`: file → names of its tensors): every tensor that is listed is in its
 * file, none is in a second file, none goes unlisted. Throws `InputError`.
 */
export function checkIndex(index: ReadonlyMap<string, string>, shards: ReadonlyMap<string, Iterable<string>>, file: string): void {
  const found = new Map<string, string>();
  for (const [shard, names] of shards) {
    for (const name of names) {
      const other = found.get(name);
      if (other !== undefined) throw new InputError(`${file}: tensor ${quote(name)} is in two files, ${other} and ${shard}`);
      found.set(name, shard);
    }
  }
  for (const [name, shard] of index) {
    if (found.get(name) !== shard) throw new InputError(`${file}: tensor ${quote(name)} is said to be in ${shard}, but is not`);
  }
  for (const [name, shard] of found) {
    if (!index.has(name)) throw new InputError(`${file}: tensor ${quote(name)} is in ${shard}, but is not listed`);
  }
}
