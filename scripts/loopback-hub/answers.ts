// What a route answers, and how it is sent: whole, by range, slowly, or wrong as a fault has it.
import type { IncomingMessage, ServerResponse } from "node:http";

/** How an answer to a reader goes wrong. */
export const FAULTS = ["429", "500", "503", "reset", "cut", "short", "long", "ignore-range", "expired"] as const;
/** How sending something up goes wrong: a `cut` request is cut in its body, a `lost` one is carried out and its answer lost. */
export const WRITE_FAULTS = ["429", "500", "503", "reset", "cut", "lost", "expired"] as const;
/**
 * `stall`: neither an answer nor an end. `elsewhere`: the CDN sends on to another host. `refused`: the token holds no longer. `echo`: an error that
 * repeats the request's headers. `locked`: another commit is under way.
 */
export type Fault = (typeof FAULTS)[number] | (typeof WRITE_FAULTS)[number] | "stall" | "elsewhere" | "refused" | "echo" | "locked";

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | number>>;
  readonly body?: Uint8Array | string;
  /** The body is a file, of which a range may be asked for. */
  readonly file?: boolean;
}

/** What a route is told of a request. */
export interface Call {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage["headers"];
  readonly body: Uint8Array;
}

export function json(value: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, headers: { "content-type": "application/json; charset=utf-8", ...headers }, body: JSON.stringify(value) };
}

/** A refusal as the Hub writes it: the code for programs, the message for people, and the message once more in the body. */
export function refuse(status: number, message: string, code?: string, headers: Readonly<Record<string, string>> = {}): Answer {
  return json({ error: message }, status, { ...headers, "x-error-message": message, ...(code !== undefined && { "x-error-code": code }) });
}

/** Waits until so many bytes may be sent. */
export type Throttle = (bytes: number) => Promise<void>;

/** Lets `rate` bytes a second through, all connections together. Timers are late by up to this many ms, which is made up for. */
export function throttleTo(rate: number): Throttle {
  const LATE = 100;
  let free = 0;
  return async (bytes) => {
    const now = performance.now();
    free = Math.max(free, now - LATE) + (bytes / rate) * 1000;
    if (free > now) await new Promise((resolve) => setTimeout(resolve, free - now));
  };
}

const PIECE = 256 * 1024;

/** Sends an answer. @returns bytes of the body that were sent, as far as the server knows */
export async function send(request: IncomingMessage, response: ServerResponse, { status, headers, body = "", file }: Answer, fault: Fault | undefined, throttle?: Throttle): Promise<number> {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const range = file === true && fault !== "ignore-range" ? /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") : null;
  const start = Number(range?.[1] ?? 0);
  const end = Math.min(range === null || range[2] === "" ? bytes.length : Number(range[2]) + 1, bytes.length);
  if (range !== null && start >= bytes.length) {
    response.writeHead(416, { "content-range": `bytes */${bytes.length}` }).end();
    return 0;
  }
  const part = bytes.subarray(start, end);
  const said = { ...headers, ...(file === true && { "accept-ranges": "bytes" }), ...(range !== null && { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` }) };
  const half = part.subarray(0, part.length >> 1);
  if (file === true && (fault === "short" || fault === "long") && request.method !== "HEAD") {
    // Without a length, so that the end of the body is where the server ends it.
    const wrong = fault === "short" ? half : Buffer.concat([part, Buffer.from("and more")]);
    response.writeHead(range === null ? status : 206, said).end(wrong);
    return wrong.length;
  }
  response.writeHead(range === null ? status : 206, { ...said, "content-length": part.length });
  if (request.method === "HEAD") {
    response.end();
    return 0;
  }
  if (fault === "cut") {
    response.write(half, () => request.socket.destroy());
    return half.length;
  }
  if (throttle) {
    for (let at = 0; at < part.length && !response.destroyed; at += PIECE) {
      const piece = part.subarray(at, at + PIECE);
      await throttle(piece.length);
      if (!response.write(piece)) await drained(response);
    }
    response.end();
  } else {
    response.end(part);
  }
  return part.length;
}

/** Returns when there is room for more, or nobody wants it any longer. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
  });
}
