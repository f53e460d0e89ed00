import type { Thread } from "../threads/thread.js";

/** Where a graph runs, and on how many threads. */
export interface Lane {
  readonly worker: Thread;
  readonly threads: number;
}

/**
 * Workers for graphs that run side by side, each with a share of the threads: two products on a thread each take no longer than one after the other on
 * both, and what only one thread does in a run, as copying outputs, is done at the same time. All but the first are started when they are needed.
 */
export class Lanes {
  readonly #workers: Thread[];
  #turn = 0;

  constructor(
    first: Thread,
    private readonly threads: number,
    private readonly open: () => Thread,
  ) {
    this.#workers = [first];
  }

  /** For one of `beside` graphs that run at a time: these are given the workers in turn. */
  next(beside: number): Lane {
    const count = Math.min(beside, this.threads);
    while (this.#workers.length < count) this.#workers.push(this.open());
    return { worker: this.#workers[this.#turn++ % count], threads: Math.ceil(this.threads / count) };
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.close()));
  }
}
