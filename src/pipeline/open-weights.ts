import type { PackedFormat } from "../formats/format.js";
import { detectFormat, FORMATS } from "../formats/formats.js";
import { decoderOf } from "../model/decoder-of.js";
import { checkpointOf, hasSafetensors, openCheckpoint, readConfig, type Checkpoint } from "../source/checkpoint.js";
import type { Source } from "../source/source.js";

/** A checkpoint, and how its linears are packed. */
export interface Weights {
  readonly checkpoint: Checkpoint;
  /** Absent where they are not. */
  readonly packed: PackedFormat | undefined;
}

/** Opens a checkpoint in safetensors or, where there are none, in files of a format's own (`Container`). Throws `InputError`. */
export async function openWeights(source: Source): Promise<Weights> {
  const files = await source.list();
  const contained = hasSafetensors(files) ? undefined : await openContained(source, files);
  if (contained !== undefined) return contained;
  // Without weights of any kind, it says what is missing.
  const checkpoint = await openCheckpoint(source);
  return { checkpoint, packed: detectFormat(checkpoint.config) };
}

async function openContained(source: Source, files: ReadonlyMap<string, number>): Promise<Weights | undefined> {
  const config = await readConfig(source, files);
  const folder = {
    label: source.label, files,
    read: (path: string, start: number, end: number) => source.read(path, start, end),
    decoder: () => decoderOf(config, `${source.label}/config.json`),
  };
  for (const { container } of FORMATS) {
    const found = await container?.open(folder);
    if (found === undefined) continue;
    return { checkpoint: checkpointOf(source, config, new Map(found.tensors.map((tensor) => [tensor.name, tensor])), files), packed: found.packed };
  }
  return undefined;
}
