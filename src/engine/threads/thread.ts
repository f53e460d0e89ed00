import { setTimeout } from "node:timers/promises";
import { Worker, type Transferable } from "node:worker_threads";
import { NATIVE, STOP } from "./native-guard.js";
import { Requests, type Response } from "./requests.js";

const POLL_MS = 10;

/** A worker thread that answers requests (see `serve`). While it has none, it does not keep the process alive. */
export class Thread {
  readonly #worker: Worker;
  readonly #requests: Requests;
  #end: Error | undefined;
  readonly #guard = new Int32Array(new SharedArrayBuffer(8));

  constructor(url: URL, workerData: object = {}) {
    // A worker inherits the flags of the process, but does not start with those of `node --input-type=module -e …`.
    this.#worker = new Worker(url, { workerData: { ...workerData, guard: this.#guard }, execArgv: process.execArgv.filter((flag) => !flag.startsWith("--input-type")) });
    this.#worker.unref();
    this.#requests = new Requests((request, transfer) => this.#worker.postMessage(request, transfer));
    this.#worker.on("message", (response: Response) => this.#settle(response));
    this.#worker.on("error", (error) => this.#stop(new Error(`A thread of the engine died: ${error.message}`, { cause: error })));
    this.#worker.on("exit", (code) => this.#stop(new Error(`A thread of the engine ended by itself, with code ${code}.`)));
  }

  /** Whether it can still be asked. */
  get alive(): boolean {
    return this.#end === undefined;
  }

  /**
   * Runs a method there; what is in `transfer` is moved.
   * @throws {Error} what the method threw, or why the thread ended
   */
  async request<R>(method: string, args: readonly unknown[], transfer: Iterable<Transferable> = []): Promise<R> {
    if (this.#end !== undefined) throw this.#end;
    const answer = this.#requests.send<R>(method, args, transfer);
    if (this.#requests.waiting > 0) this.#worker.ref();
    return answer;
  }

  /** Ends the thread; requests under way are rejected. */
  async close(): Promise<void> {
    this.#stop(new Error("The engine was closed."));
    Atomics.store(this.#guard, STOP, 1);
    // Never in the middle of native code: see `native`.
    while (Atomics.load(this.#guard, NATIVE) > 0) await setTimeout(POLL_MS);
    // Whoever waits for the end must not be left waiting by a process that has nothing else to do.
    this.#worker.ref();
    await this.#worker.terminate();
  }

  #settle(response: Response): void {
    if (this.#end !== undefined) return;
    this.#requests.settle(response);
    if (this.#requests.waiting === 0) this.#worker.unref();
  }

  #stop(reason: Error): void {
    this.#end ??= reason;
    this.#requests.rejectAll(this.#end);
  }
}
