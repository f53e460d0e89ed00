import type { Checkpoint } from "../source/checkpoint.js";
import { chunksOf } from "../source/ranges.js";

/** What is copied passes through memory in pieces. */
export const COPY_BYTES = 32 << 20;

/** What reads a tensor's bytes, piece by piece and in order: a call a piece, at least one. One whose bytes must be restored comes whole. */
export function piecesOf(checkpoint: Checkpoint, name: string): (() => Promise<Uint8Array<ArrayBuffer>>)[] {
  const tensor = checkpoint.tensors.get(name)!;
  if (tensor.restore !== undefined || tensor.start === tensor.end) return [async () => (await checkpoint.read(name)).bytes];
  return chunksOf([tensor], COPY_BYTES).map(({ file, start, end }) => () => checkpoint.source.read(file, start, end));
}
