import { setTimeout } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { InputError } from "../../errors.js";
import { NATIVE, STOP } from "./native-guard.js";

/** What is asked of a thread: a method of those that it serves. */
export interface Request {
  readonly id: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

/** What it answers. Structured cloning does not keep an error's class, and of some not even the message. */
export type Response =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly message: string; readonly stack: string | undefined; readonly isInputError: boolean };

const POLL_MS = 10;

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A worker thread that answers requests (see `serve`). While it has none, it does not keep the process alive. */
export class Thread {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  #end: Error | undefined;
  readonly #guard = new Int32Array(new SharedArrayBuffer(8));

  constructor(url: URL, workerData: object = {}) {
    // A worker inherits the flags of the process, but does not start with those of `node --input-type=module -e …`.
    this.#worker = new Worker(url, { workerData: { ...workerData, guard: this.#guard }, execArgv: process.execArgv.filter((flag) => !flag.startsWith("--input-type")) });
    this.#worker.unref();
    this.#worker.on("message", (response: Response) => this.#settle(response));
    this.#worker.on("error", (error) => this.#stop(new Error(`A thread of the engine died: ${error.message}`, { cause: error })));
    this.#worker.on("exit", (code) => this.#stop(new Error(`A thread of the engine ended by itself, with code ${code}.`)));
  }

  /** Whether it can still be asked. */
  get alive(): boolean {
    return this.#end === undefined;
  }

  /**
   * Runs a method there; buffers in `transfer` are moved.
   * @throws {Error} what the method threw, or why the thread ended
   */
  request<R>(method: string, args: readonly unknown[], transfer: Iterable<ArrayBuffer> = []): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      if (this.#end !== undefined) throw this.#end;
      const id = this.#nextId++;
      this.#worker.postMessage({ id, method, args } satisfies Request, [...new Set(transfer)]);
      if (this.#pending.size === 0) this.#worker.ref();
      this.#pending.set(id, { resolve: resolve as Pending["resolve"], reject });
    });
  }

  /** Ends the thread; requests under way are rejected. */
  async close(): Promise<void> {
    this.#stop(new Error("The engine was closed."));
    Atomics.store(this.#guard, STOP, 1);
    // Never in the middle of native code: see `native`.
    while (Atomics.load(this.#guard, NATIVE) === 1) await setTimeout(POLL_MS);
    // Whoever waits for the end must not be left waiting by a process that has nothing else to do.
    this.#worker.ref();
    await this.#worker.terminate();
  }

  #settle(response: Response): void {
    if (this.#end !== undefined) return;
    const pending = this.#pending.get(response.id);
    this.#pending.delete(response.id);
    if (this.#pending.size === 0) this.#worker.unref();
    if ("result" in response) pending?.resolve(response.result);
    else pending?.reject(Object.assign(new (response.isInputError ? InputError : Error)(response.message), { stack: response.stack }));
  }

  #stop(reason: Error): void {
    this.#end ??= reason;
    for (const { reject } of this.#pending.values()) reject(this.#end);
    this.#pending.clear();
  }
}
