import { InputError } from "../errors.js";
import { Broken } from "./attempts.js";
import type { SteadyOptions } from "./attempts.js";
import type { Hub } from "./hub.js";

const STALL = 30_000;

const MAX_REDIRECTS = 5;

/** One request under way: its headers have arrived. Whoever holds it reads its chunks to the end or closes it. */
export interface Exchange {
  readonly response: Response;
  /** Where it came from, redirects followed. */
  readonly url: string;
  /** The body. Throws `Broken` where it is cut or stalls. */
  chunks(): AsyncGenerator<Uint8Array>;
  /** Lets go of what is not read yet. */
  close(): void;
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
  const abort = () => controller.abort();
  signal?.addEventListener("abort", abort);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stalled = false;
  const rest = () => clearTimeout(timer);
  const watch = () => {
    rest();
    timer = setTimeout(() => {
      stalled = true;
      abort();
    }, stall);
  };
  const end = () => {
    rest();
    signal?.removeEventListener("abort", abort);
  };
  const brokenBy = (error: unknown): Error => {
    end();
    signal?.throwIfAborted();
    return new Broken(stalled ? `nothing was heard for ${stall / 1000} s` : reasonOf(error));
  };

  watch();
  const request = withBody({ ...init, headers, redirect: "manual", signal: controller.signal }, watch);
  const response = await hub.fetch(url, request).catch((error: unknown) => {
    throw brokenBy(error);
  });
  rest();
  return {
    response,
    url,
    async *chunks() {
      const reader = response.body?.getReader();
      let finished = reader === undefined;
      try {
        while (reader) {
          watch();
          const { done, value } = await reader.read().catch((error: unknown) => {
            throw brokenBy(error);
          });
          rest();
          signal?.throwIfAborted();
          if (done) break;
          yield value;
        }
        finished = true;
      } finally {
        end();
        if (!finished) abort();
      }
    },
    close: () => {
      end();
      abort();
    },
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
