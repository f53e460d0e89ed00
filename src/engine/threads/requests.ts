import type { Transferable } from "node:worker_threads";
import { InputError } from "../../errors.js";
import { DeviceLost } from "../device-lost.js";

/** What is asked of a thread: a method of those that it serves. */
export interface Request {
  readonly id: number;
  readonly method: string;
  readonly args: readonly unknown[];
}

/** What it answers. Structured cloning does not keep an error's class, and of some not even the message. */
export type Response = { readonly id: number; readonly result: unknown } | ({ readonly id: number } & Failure);

interface Failure {
  readonly message: string;
  readonly stack: string | undefined;
  readonly isInputError: boolean;
  readonly lost?: { readonly device: string; readonly why: string };
}

/** An error, such that it can be sent. */
export function failureOf(thrown: unknown): Failure {
  const { message, stack } = thrown instanceof Error ? thrown : new Error(String(thrown));
  return { message, stack, isInputError: thrown instanceof InputError, ...(thrown instanceof DeviceLost && { lost: { device: thrown.device, why: thrown.why } }) };
}

function errorOf({ message, stack, isInputError, lost }: Failure): Error {
  if (lost !== undefined) return new DeviceLost(lost.device, lost.why);
  return Object.assign(new (isInputError ? InputError : Error)(message), { stack });
}

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** What is sent over a port, or to a worker, and has an answer coming. */
export class Requests {
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;

  constructor(private readonly post: (request: Request, transfer: Transferable[]) => void) {}

  get waiting(): number {
    return this.#pending.size;
  }

  /** Sends a request; what is in `transfer` is moved. */
  send<R>(method: string, args: readonly unknown[], transfer: Iterable<Transferable> = []): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      const id = this.#nextId++;
      this.post({ id, method, args }, [...new Set(transfer)]);
      this.#pending.set(id, { resolve: resolve as Pending["resolve"], reject });
    });
  }

  settle(response: Response): void {
    const pending = this.#pending.get(response.id);
    this.#pending.delete(response.id);
    if ("result" in response) pending?.resolve(response.result);
    else pending?.reject(errorOf(response));
  }

  rejectAll(reason: Error): void {
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
  }
}
