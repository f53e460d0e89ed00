import { Thread } from "../threads/thread.js";

// Each takes the memory of an operand or two; beyond eight the memory bus is the limit.
const MOST_THREADS = 8;

/** Threads for `Engine.call`, each with linear algebra of its own on one core, started when they are first needed: workers that serve `call`. */
export class Pool {
  readonly size: number;
  readonly #idle: Thread[] = [];
  readonly #all = new Set<Thread>();
  readonly #waiting: (() => void)[] = [];
  #closed = false;

  /** @param ready is given each worker before anything else is asked of it */
  constructor(
    threads: number,
    private readonly url = new URL("./call-worker.js", import.meta.url),
    private readonly ready: (worker: Thread) => Promise<unknown> = () => Promise.resolve(),
  ) {
    this.size = Math.min(threads, MOST_THREADS);
  }

  async call<R>(moduleUrl: string, exportName: string, args: readonly unknown[], transfer: readonly ArrayBuffer[] = []): Promise<R> {
    const thread = await this.#take();
    try {
      return await thread.request<R>("call", [moduleUrl, exportName, args], transfer);
    } finally {
      if (thread.alive) this.#idle.push(thread);
      else this.#all.delete(thread);
      this.#waiting.shift()?.();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const wake of this.#waiting.splice(0)) wake();
    await Promise.all([...this.#all].map((thread) => thread.close()));
  }

  async #take(): Promise<Thread> {
    while (!this.#closed && this.#idle.length === 0 && this.#all.size === this.size) await new Promise<void>((wake) => this.#waiting.push(wake));
    if (this.#closed) throw new Error("The engine was closed.");
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    const thread = new Thread(this.url);
    this.#all.add(thread);
    await this.ready(thread);
    return thread;
  }
}
