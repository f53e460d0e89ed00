import { parentPort, type MessagePort } from "node:worker_threads";
import { Transferring } from "../transferring.js";
import { failureOf, type Request, type Response } from "./requests.js";

/** The methods that a thread offers; a `Transferring` result is moved. */
export type Methods = Readonly<Record<string, (...args: never[]) => unknown>>;

/** Answers a `Thread`'s requests from inside the worker, or those that come over a port, one after the other in the order in which they came. */
export function serve(methods: Methods, port: MessagePort = parentPort!): void {
  let last = Promise.resolve();
  port.on("message", (request: Request) => {
    last = last.then(() => answer(methods, port, request));
  });
}

async function answer(methods: Methods, port: MessagePort, { id, method, args }: Request): Promise<void> {
  try {
    const result: unknown = await methods[method](...(args as never[]));
    if (result instanceof Transferring) port.postMessage({ id, result: result.result as unknown } satisfies Response, [...new Set(result.buffers)]);
    else port.postMessage({ id, result } satisfies Response);
  } catch (thrown) {
    port.postMessage({ id, ...failureOf(thrown) } satisfies Response);
  }
}
