import { InputError } from "../errors.js";
import { byteSize } from "./dtypes.js";
import { LENGTH_BYTES, MAX_HEADER_BYTES } from "./header.js";
import type { TensorEntry } from "./header.js";
import { quote } from "./json.js";
import type { TensorSpec } from "./tensor.js";

/** One file to be written: all that is known of it before any tensor's bytes exist. */
export interface Shard {
  /** `model.safetensors`, or `model-00001-of-0000N.safetensors` where there are several. */
  readonly file: string;
  /** The first bytes of the file: length and JSON. */
  readonly header: Uint8Array<ArrayBuffer>;
  /** In the order given, side by side from the header to the end of the file. */
  readonly tensors: readonly TensorEntry[];
  /** Bytes of the whole file. */
  readonly size: number;
}

/**
 * Spreads tensors over files, in the order given, so that they can be written one after the other. As in transformers, a shard's
 * tensors together are at most `maxShardSize` bytes, headers aside; a tensor that is larger has a shard of its own. No tensors make one empty file.
 * Throws `InputError` for tensors that safetensors cannot hold: two of one name, a reserved name, elements that do not fill
 * whole bytes.
 */
export function planShards(specs: readonly TensorSpec[], maxShardSize: number): Shard[] {
  const names = new Set<string>();
  const groups: Sized[][] = [[]];
  let room = maxShardSize;
  for (const spec of specs) {
    const bytes = checkedSize(spec);
    if (names.has(spec.name)) throw new InputError(`two tensors are named ${quote(spec.name)}`);
    names.add(spec.name);
    if (bytes > room && groups.at(-1)!.length > 0) {
      groups.push([]);
      room = maxShardSize;
    }
    groups.at(-1)!.push({ spec, bytes });
    room -= bytes;
  }
  return groups.map((group, i) => layOut(group, shardName(i, groups.length)));
}

/** model.safetensors.index.json for the shards, as transformers writes it. */
export function indexJson(shards: readonly Shard[]): string {
  const entries = shards.flatMap(({ file, tensors }) => tensors.map(({ name }) => [name, file] as const));
  const sizes = shards.flatMap(({ tensors }) => tensors.map(({ start, end }) => end - start));
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  const index = { metadata: { total_size: sizes.reduce((sum, size) => sum + size, 0) }, weight_map: Object.fromEntries(entries) };
  return JSON.stringify(index, null, 2) + "\n";
}

interface Sized {
  readonly spec: TensorSpec;
  readonly bytes: number;
}

function checkedSize({ name, dtype, shape }: TensorSpec): number {
  if (name === "__metadata__") throw new InputError(`a tensor cannot be named ${quote(name)}: safetensors reserves the name`);
  if (/\p{Surrogate}/u.test(name)) throw new InputError(`a tensor cannot be named ${quote(name)}: it is not valid Unicode`);
  const bytes = byteSize(dtype, shape);
  if (!Number.isSafeInteger(bytes)) {
    throw new InputError(`tensor ${quote(name)}: ${dtype} of shape ${quote(shape)} is not a whole number of bytes that can be counted`);
  }
  return bytes;
}

function shardName(index: number, count: number): string {
  const digits = (n: number): string => String(n).padStart(5, "0");
  return count === 1 ? "model.safetensors" : `model-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}

function layOut(group: readonly Sized[], file: string): Shard {
  const fields = [`"__metadata__":{"format":"pt"}`];
  let offset = 0;
  for (const { spec: { name, dtype, shape }, bytes } of group) {
    // Written by hand: an object would move names that look like numbers to the front.
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [offset, offset + bytes] })}`);
    offset += bytes;
  }
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  // Padded so that the tensors begin at a multiple of eight.
  const length = Math.ceil(json.length / 8) * 8;
  if (length > MAX_HEADER_BYTES) throw new InputError(`${file}: the header would take ${length} bytes; safetensors allows ${MAX_HEADER_BYTES}`);
  const header = new Uint8Array(LENGTH_BYTES + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, LENGTH_BYTES);

  let end = header.length;
  const tensors = group.map(({ spec: { name, dtype, shape }, bytes }) => ({ name, dtype, shape, start: end, end: (end += bytes) }));
  return { file, header, tensors, size: end };
}
