import { basename, dirname } from "node:path";
import type { RetryEvent } from "../pipeline/events.js";
import { inspectCheckpoint, type Inspection } from "../pipeline/inspect.js";
import { openSource } from "../source/open-source.js";
import { patienceOf } from "./patience.js";

export interface InspectOptions {
  readonly onEvent?: (event: RetryEvent) => void;
  readonly signal?: AbortSignal;
}

/** What a checkpoint (a folder, or a repo on the Hub), or a single safetensors file on disk, holds: from headers alone. */
export async function inspect(path: string, { signal, onEvent }: InspectOptions = {}): Promise<Inspection> {
  const single = path.endsWith(".safetensors");
  const source = await openSource(single ? dirname(path) : path, patienceOf(signal, onEvent));
  try {
    return await inspectCheckpoint(source, single ? basename(path) : undefined);
  } finally {
    await source.close();
  }
}
