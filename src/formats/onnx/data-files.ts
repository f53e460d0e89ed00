import { byteSize } from "../../safetensors/dtypes.js";
import type { TensorEntry } from "../../safetensors/header.js";
import type { Shard } from "../../safetensors/layout.js";
import type { TensorSpec } from "../../safetensors/tensor.js";

/** Browsers hold no more than 2 GiB in one ArrayBuffer. */
export const LARGEST_FILE = 2e9;

/** Large tensors begin at a page, so that they can be mapped into memory; small ones at a cache line. */
const LARGE = 1 << 20;
const PAGE = 4096;
const LINE = 64;

export const aligned = (at: number, bytes: number): number => {
  const to = bytes < LARGE ? LINE : PAGE;
  return Math.ceil(at / to) * to;
};

/** What a file begins with. */
interface Start {
  readonly size: number;
  readonly bytes: () => Uint8Array<ArrayBuffer>;
}

/**
 * Lays tensors out over files of raw bytes, in the order given: `name`, and as transformers.js counts on, `name_1` …, each of at most
 * `largest` bytes, except where one tensor alone is larger.
 * @param start what the first file begins with; its bytes are asked for when they are written
 */
export function dataFiles(name: string, start: Start, specs: readonly TensorSpec[], largest = LARGEST_FILE): Shard[] {
  const shards: (Shard & { tensors: TensorEntry[]; size: number })[] = [];
  const open = ({ size, bytes }: Start) => shards.push({ file: shards.length === 0 ? name : `${name}_${shards.length}`, get header() { return bytes(); }, tensors: [], size });
  open(start);
  for (const spec of specs) {
    const bytes = byteSize(spec.dtype, spec.shape);
    let shard = shards.at(-1)!;
    if (shard.size > 0 && aligned(shard.size, bytes) + bytes > largest) {
      open({ size: 0, bytes: () => new Uint8Array() });
      shard = shards.at(-1)!;
    }
    const at = aligned(shard.size, bytes);
    shard.size = at + bytes;
    shard.tensors.push({ ...spec, start: at, end: shard.size });
  }
  return shards;
}
