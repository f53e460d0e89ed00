import { InputError } from "../errors.js";
import { streamsOf } from "./options.js";
import type { QuantizeJob } from "./quantize.js";

/** Better refused now than after hours. @param tokens of calibration */
export async function checkSpace(job: QuantizeJob, tokens: number): Promise<void> {
  if (job.freeSpace === undefined) return;
  const { checkpoint, hidden } = spaceOf(job, tokens);
  const free = await job.freeSpace();
  if (free < checkpoint + hidden) {
    throw new InputError(`${job.sink.label} has ${megabytes(free)} free; the checkpoint takes ${megabytes(checkpoint)}${hidden > 0 ? `, and hidden states ${megabytes(hidden)} while it is made` : ""}`);
  }
}

/** Bytes on the disk of the output while the run is at work. */
export function spaceOf({ prepared: { bytes, shards, decoder, settings }, keepShards }: QuantizeJob, tokens: number): { readonly checkpoint: number; readonly hidden: number } {
  return {
    // One that is being written, one that waits to be sent, and one that is sent.
    checkpoint: keepShards === false ? Math.min(bytes, 3 * Math.max(...shards.map(({ size }) => size))) : bytes,
    // Those before and after the layer that is under way, in float32.
    hidden: streamsOf(settings) * 2 * 4 * (decoder?.hiddenSize ?? 0) * tokens,
  };
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
