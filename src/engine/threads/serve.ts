import { parentPort } from "node:worker_threads";
import { InputError } from "../../errors.js";
import { Transferring } from "../transferring.js";
import type { Request, Response } from "./thread.js";

/** The methods that a thread offers; a `Transferring` result is moved. */
export type Methods = Readonly<Record<string, (...args: never[]) => unknown>>;

/** Answers a `Thread`'s requests from inside the worker, one after the other in the order in which they came. */
export function serve(methods: Methods): void {
  let last = Promise.resolve();
  parentPort!.on("message", (request: Request) => {
    last = last.then(() => answer(methods, request));
  });
}

async function answer(methods: Methods, { id, method, args }: Request): Promise<void> {
  try {
    const result: unknown = await methods[method](...(args as never[]));
    if (result instanceof Transferring) parentPort!.postMessage({ id, result: result.result as unknown } satisfies Response, [...new Set(result.buffers)]);
    else parentPort!.postMessage({ id, result } satisfies Response);
  } catch (thrown) {
    const { message, stack } = thrown instanceof Error ? thrown : new Error(String(thrown));
    parentPort!.postMessage({ id, message, stack, isInputError: thrown instanceof InputError } satisfies Response);
  }
}
