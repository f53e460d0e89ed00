import { Attempts, Broken } from "./attempts.js";
import type { SteadyOptions } from "./attempts.js";
import { addressOf, exchange, wholeOf } from "./exchange.js";
import type { Hub } from "./hub.js";
import { brokenOf, busyOf } from "./statuses.js";

/**
 * `fetch` for a Hub's API and its uploads. It tries again after 408, 429 and 5xx, where the Hub is busy with the like, and where the connection is refused, cut or stalls; a body
 * that is a stream cannot be sent twice and is tried once. Answers are read whole before they are returned, so that one cut in its middle
 * is asked for again too. `Authorization` is added for the endpoint's own origin and for no other host. Gives up with an `InputError`
 * that names address, status and request id; other statuses are the caller's matter. Fits the `fetch` option of @huggingface/hub.
 */
export function steadyFetch(hub: Hub, options: SteadyOptions = {}): typeof fetch {
  return async (input, init) => {
    const { url, ...request } = await requestOf(input, init);
    const signals = [options.signal, init?.signal].filter((signal) => signal !== undefined && signal !== null);
    const own = { ...options, signal: signals.length > 1 ? AbortSignal.any(signals) : signals.at(0) };
    const name = `${(request.method ?? "GET").toUpperCase()} ${addressOf(url)}`;
    const attempts = new Attempts(name, own, request.body instanceof ReadableStream ? 1 : undefined);
    for (;;) {
      try {
        return await tryOnce(hub, url, request, own);
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        await attempts.wait(error);
      }
    }
  };
}

async function requestOf(input: string | URL | Request, init: RequestInit = {}): Promise<RequestInit & { url: string }> {
  if (typeof input === "string" || input instanceof URL) return { ...init, url: String(input) };
  const { url, method, headers, redirect } = input;
  return { method, headers, redirect, ...(input.body !== null && { body: await input.blob() }), ...init, url };
}

async function tryOnce(hub: Hub, url: string, init: RequestInit, options: SteadyOptions): Promise<Response> {
  const answer = await exchange(hub, url, init, options);
  const broken = brokenOf(answer.response);
  if (broken) {
    answer.close();
    throw broken;
  }
  const whole = await wholeOf(answer);
  const busy = await busyOf(whole);
  if (busy) throw busy;
  return whole;
}
