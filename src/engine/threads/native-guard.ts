import { workerData } from "node:worker_threads";

/** What a worker and its owner share: whether the owner wants it to stop, and how many of its calls are inside native code. */
export const STOP = 0;
export const NATIVE = 1;

const shared = (workerData as { readonly guard?: Int32Array } | null)?.guard;

/**
 * Runs native code such that the owner of this thread can end it in safety: a thread that is ended inside ONNX Runtime takes the whole
 * process with it. Throws once the owner has asked to stop.
 */
export async function native<R>(work: () => Promise<R>): Promise<R> {
  if (shared === undefined) return work();
  // First say so, then look: whoever asks does it the other way round, so one of the two always sees the other.
  Atomics.add(shared, NATIVE, 1);
  try {
    if (Atomics.load(shared, STOP) === 1) throw new Error("The engine was closed.");
    return await work();
  } finally {
    Atomics.sub(shared, NATIVE, 1);
  }
}
