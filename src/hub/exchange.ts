import { InputError } from "../errors.js";
import { VERSION } from "../version.js";
import { Broken } from "./attempts.js";
import type { SteadyOptions } from "./attempts.js";
import { eitherSignal } from "./either-signal.js";
import type { Hub } from "./hub.js";
import { Watchdog } from "./watchdog.js";

const STALL = 30_000;

const MAX_REDIRECTS = 5;

/** One request under way: its headers have arrived. Whoever holds it closes it, read to the end or not. */
export interface Exchange {
  readonly response: Response;
  /** Where it came from, redirects followed. */
  readonly url: string;
  /** The body's next chunk, undefined at its end. Throws `Broken` where it is cut or stalls. */
  readonly next: () => Promise<Uint8Array | undefined>;
  /** Lets go of what is not read yet. */
  readonly close: () => void;
}

/** What an API answers fits easily; weights are read in pieces. */
const MAX_WHOLE_BYTES = 64 * 1024 * 1024;

/** Reads a body to its end and closes the exchange; the response is one that can be read without waiting. */
export async function wholeOf({ response: { status, statusText, headers }, url, next, close }: Exchange): Promise<Response> {
  try {
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    for (let chunk = await next(); chunk !== undefined; chunk = await next()) {
      size += chunk.length;
      if (size > MAX_WHOLE_BYTES) throw new InputError(`${addressOf(url)}: answers with more than ${MAX_WHOLE_BYTES} bytes, where a short answer was expected`);
      parts.push(new Uint8Array(chunk));
    }
    // These may not have a body, not even an empty one.
    const body = [204, 205, 304].includes(status) ? null : new Blob(parts);
    return Object.defineProperty(new Response(body, { status, statusText, headers: new Headers([...headers]) }), "url", { value: url });
  } finally {
    close();
  }
}

/** An address as messages may show it: a query may be signed, and a user may carry a password. */
export function addressOf(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname;
}

/**
 * Sends one request, once, following redirects. `Authorization` goes to the endpoint's own origin and to no other, also where the
 * caller set it. Throws `Broken` where the connection fails or stalls, and the signal's reason when aborted. Statuses are the caller's matter.
 * @param onHop sees each redirect before it is followed
 */
export async function exchange(hub: Hub, url: string, init: RequestInit, options: SteadyOptions, onHop?: (response: Response, url: string) => void): Promise<Exchange> {
  let { method, body } = init;
  for (let hops = 0; ; hops++) {
    const sent = await send(hub, url, { ...init, method, body }, options);
    const location = isRedirect(sent.response.status) && init.redirect !== "manual" ? sent.response.headers.get("location") : null;
    if (location === null) return sent;
    sent.close();
    if (hops === MAX_REDIRECTS) throw new InputError(`${addressOf(url)}: more than ${MAX_REDIRECTS} redirects`);
    onHop?.(sent.response, url);
    if (!URL.canParse(location, url) || !/^https?:$/.test(new URL(location, url).protocol)) throw new InputError(`${addressOf(url)}: redirects to something that is no web address`);
    url = new URL(location, url).href;
    // As browsers do: 307 and 308 keep the method, the older ones turn a POST into a GET.
    if (sent.response.status === 303 || (sent.response.status < 303 && method?.toUpperCase() === "POST")) [method, body] = ["GET", undefined];
  }
}

function isRedirect(status: number): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}

async function send(hub: Hub, url: string, init: RequestInit, { signal, stall = STALL }: SteadyOptions): Promise<Exchange> {
  signal?.throwIfAborted();
  const headers = headersFor(hub, url, init.headers);
  const controller = new AbortController();
  // Not by listeners on the signal: many requests may share it, and Node warns of many listeners.
  const either = eitherSignal(signal, controller.signal);
  const watchdog = new Watchdog(stall, () => controller.abort());
  const close = () => {
    watchdog.end();
    controller.abort();
  };
  const fail = (error: unknown): never => {
    close();
    signal?.throwIfAborted();
    throw new Broken(watchdog.barked ? `nothing was heard for ${stall / 1000} s` : reasonOf(error));
  };

  watchdog.watch();
  const request = withBody({ ...init, headers, redirect: "manual", signal: either }, () => watchdog.watch());
  const response = await hub.fetch(url, request).catch(fail);
  watchdog.rest();
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  return {
    response,
    url,
    async next() {
      reader ??= response.body?.getReader();
      if (reader === undefined) return undefined;
      watchdog.watch();
      const { done, value } = await reader.read().catch(fail);
      watchdog.rest();
      signal?.throwIfAborted();
      return done ? undefined : value;
    },
    close,
  };
}

/** A Blob goes out as a stream, so that a slow upload that moves is told from one that stands. */
function withBody(init: RequestInit & { headers: Headers }, moved: () => void): RequestInit {
  const { body, headers } = init;
  if (!(body instanceof Blob)) return init;
  headers.set("content-length", String(body.size));
  const reader = body.stream().getReader();
  const stream = new ReadableStream<Uint8Array>({
    async pull(sink) {
      moved();
      const { done, value } = await reader.read();
      if (done) sink.close();
      else sink.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  // `duplex` is what fetch wants of a body that is a stream; the DOM's types do not know it yet.
  return { ...init, body: stream, duplex: "half" } as RequestInit;
}

function headersFor(hub: Hub, url: string, given: HeadersInit | undefined): Headers {
  const headers = new Headers(given);
  headers.set("user-agent", `shardsmith/${VERSION}`);
  if (new URL(url).origin !== new URL(hub.endpoint).origin) headers.delete("authorization");
  else if (hub.token !== undefined) {
    // fetch would tell the header in its own message.
    if (!/^[\x21-\x7e]+$/.test(hub.token)) throw new InputError(`the Hub token holds characters that no token has; see HF_TOKEN, or log in again with \`hf auth login\``);
    headers.set("authorization", `Bearer ${hub.token}`);
  }
  return headers;
}

/** Only codes and known words: an error's own text may repeat what was sent. */
function reasonOf(error: unknown): string {
  const code = codeOf(error);
  return code === undefined ? "the connection failed" : (REASONS[code] ?? `the connection failed (${code})`);
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "the connection was refused",
  ENOTFOUND: "the host is not known; is there a network?",
  EAI_AGAIN: "the host's address could not be looked up; is there a network?",
  ECONNRESET: "the connection was cut",
  EPIPE: "the connection was cut",
  UND_ERR_SOCKET: "the connection was cut",
  UND_ERR_CONNECT_TIMEOUT: "no connection came about",
  ETIMEDOUT: "no connection came about",
};

function codeOf(error: unknown): string | undefined {
  for (let depth = 0; error instanceof Error && depth < 5; depth++) {
    if ("code" in error && typeof error.code === "string") return error.code;
    error = error instanceof AggregateError ? error.errors[0] : error.cause;
  }
  return undefined;
}
