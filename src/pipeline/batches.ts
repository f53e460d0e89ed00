import { embed } from "../model/forward.js";
import type { Activations } from "../engine/engine.js";
import type { Decoder } from "../model/decoder.js";
import type { ReadRows } from "../model/weights.js";

/** Tokens that the engine takes at a time: enough for its matrix products to be fast, few enough for a wide layer's intermediates. */
export const TOKENS_A_BATCH = 1024;

/** Sequences of one length. */
export type Batch = readonly Uint32Array[];

/** Joins neighbouring sequences of equal length to batches of about `TOKENS_A_BATCH` tokens. */
export function batchesOf(sequences: readonly Uint32Array[]): Batch[] {
  const batches: Uint32Array[][] = [];
  for (const sequence of sequences) {
    const last = batches.at(-1);
    if (last?.[0]?.length === sequence.length && (last.length + 1) * sequence.length <= TOKENS_A_BATCH) last.push(sequence);
    else batches.push([sequence]);
  }
  return batches;
}

/** Tokens of a batch. */
export function tokensOf(batch: Batch): number {
  return batch.length * (batch[0]?.length ?? 0);
}

/** The hidden state that the first layer takes; of the embedding only the rows that occur are read. */
export async function embedBatch(readRows: ReadRows, decoder: Decoder, batch: Batch): Promise<Activations> {
  const { tensor, scale } = decoder.embedding;
  const tokens = [...new Set(batch.flatMap((sequence) => [...sequence]))].sort((a, b) => a - b);
  const rows = await readRows(tensor, tokens);
  const width = decoder.hiddenSize;
  const places = new Map(tokens.map((token, i) => [token, i * width]));
  return embed(batch, width, scale, (token, into) => {
    const at = places.get(token)!;
    into.set(rows.subarray(at, at + width));
  });
}
