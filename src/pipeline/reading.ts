import type { Checkpoint } from "../source/checkpoint.js";
import type { FileRange } from "../source/ranges.js";
import { ReadAhead } from "../source/read-ahead.js";

/** The checkpoint of a run that goes through it step by step. */
export interface Reading {
  readonly checkpoint: Checkpoint;
  /** Bytes of memory that are set aside for what comes after the current step. */
  readonly memory: number;
  /** Says which step begins. */
  readonly enter: (step: number) => void;
  readonly close: () => void;
}

/** At least this much is read ahead of small steps, so that a connection is kept busy. */
const LEAST_AHEAD = 128 * 1024 * 1024;

/** Reads a checkpoint on a Hub ahead and each byte once, in at most half of `memory` beside the current step; one in a folder as it comes. */
export function readingOf(checkpoint: Checkpoint, steps: readonly (readonly FileRange[])[], memory: number): Reading {
  if (checkpoint.source.hub === undefined) return { checkpoint, memory: 0, enter: () => undefined, close: () => undefined };
  const largest = Math.max(...steps.map((ranges) => ranges.reduce((sum, { start, end }) => sum + end - start, 0)));
  const aside = Math.min(Math.floor(memory / 2), Math.max(largest, LEAST_AHEAD));
  const ahead = new ReadAhead(checkpoint.source, steps, aside);
  return { checkpoint: checkpoint.through(ahead), memory: aside, enter: (step) => { ahead.enter(step); }, close: () => { ahead.close(); } };
}

/** Where the tensors of a step lie. */
export function rangesOf({ tensors }: Checkpoint, names: readonly string[]): FileRange[] {
  return names.map((name) => tensors.get(name)!);
}
