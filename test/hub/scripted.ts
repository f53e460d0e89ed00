import type { Retry } from "#src/hub/attempts.js";
import type { Hub } from "#src/hub/hub.js";

/** A request as it would have gone out. */
export interface Sent {
  readonly url: string;
  readonly method: string;
  readonly headers: Headers;
  readonly body: string;
}

export type Answer = (sent: Sent) => Response | Promise<Response>;

export const ENDPOINT = "https://hub.test";
export const TOKEN = "hf_secretsecret";

/** A hub whose requests are answered by `answer`, and remembered. */
export function scriptedHub(answer: Answer, token: string | undefined = TOKEN): { hub: Hub; sent: Sent[] } {
  const sent: Sent[] = [];
  const answerTo: typeof fetch = async (input, init = {}) => {
    init.signal?.throwIfAborted();
    const headers = new Headers(init.headers);
    const request = { url: input as string, method: init.method ?? "GET", headers, body: init.body == null ? "" : await new Response(init.body).text() };
    sent.push(request);
    return await answer(request);
  };
  return { hub: { endpoint: ENDPOINT, fetch: answerTo, ...(token !== undefined && { token }) }, sent };
}

/** What is told of a try that is made again, as a line. */
export const retryLine = ({ request, why, next, tries, seconds }: Retry): string => `${request}: ${why}; try ${next} of ${tries} in ${seconds.toFixed(1)} s`;

/** Answers one after the other; more requests than answers are an error. */
export function inTurn(...answers: (Response | Error | Answer)[]): Answer {
  let next = 0;
  return (sent) => {
    const answer = answers[next++];
    if (answer === undefined) throw new Error(`no answer is left for ${sent.url}`);
    if (answer instanceof Error) throw answer;
    return typeof answer === "function" ? answer(sent) : answer;
  };
}

export const redirect = (to: string, status = 302, headers: Record<string, string> = {}): Response => new Response(null, { status, headers: { location: to, ...headers } });

/** fetch's error where the connection fails. */
export const failure = (code: string): Error => new TypeError("fetch failed", { cause: Object.assign(new Error(`${code} ${TOKEN}`), { code }) });

/** A body of some chunks that is cut after them. */
export function cutBody(...chunks: Uint8Array[]): ReadableStream<Uint8Array> {
  const left = [...chunks];
  return new ReadableStream({
    pull(sink) {
      const chunk = left.shift();
      if (chunk) sink.enqueue(chunk);
      else sink.error(new TypeError("terminated", { cause: Object.assign(new Error("other side closed"), { code: "UND_ERR_SOCKET" }) }));
    },
  });
}

/** Chunks, and then nothing: neither bytes nor an end. */
export function stalledBody(...chunks: Uint8Array[]): (signal: AbortSignal) => ReadableStream<Uint8Array> {
  return (signal) => {
    const left = [...chunks];
    return new ReadableStream({
      start(sink) {
        signal.addEventListener("abort", () => sink.error(signal.reason));
      },
      pull(sink) {
        const chunk = left.shift();
        if (chunk) sink.enqueue(chunk);
        else return new Promise(() => undefined);
      },
    });
  };
}
