import { InputError } from "../errors.js";
import { decoderOf } from "../model/decoder-of.js";
import type { Decoder } from "../model/decoder.js";
import { withOwnHead } from "../model/head.js";
import type { Checkpoint } from "../source/checkpoint.js";

/** What a checkpoint's config.json says of its decoder; undefined for an architecture, or a setting, that is not known. */
export function knownDecoder({ config, tensors, source }: Pick<Checkpoint, "config" | "source"> & { readonly tensors: ReadonlyMap<string, unknown> }): Decoder | undefined {
  try {
    return withOwnHead(decoderOf(config, `${source.label}/config.json`), tensors);
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}
