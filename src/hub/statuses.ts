import { Broken } from "./attempts.js";

/** For messages: the status, and the id under which the Hub's own people find the request. */
export function statusOf({ status, headers }: Response): string {
  const id = headers.get("x-request-id") ?? headers.get("x-amz-cf-id");
  return `status ${status}${id !== null && /^[\w=+/:.-]{1,120}$/.test(id) ? ` (request id ${id})` : ""}`;
}

/** What the next try may cure: too many requests, and a server in trouble. */
export function brokenOf(response: Response): Broken | undefined {
  const { status } = response;
  return status === 408 || status === 429 || status >= 500 ? new Broken(statusOf(response), retryAfterOf(response.headers)) : undefined;
}

/**
 * Milliseconds: `Retry-After` in seconds or as a date (RFC 9110 10.2.3), or else the `t` of `RateLimit: "api";r=0;t=55`, seconds to the
 * end of the window, which the Hub sends with its 429s.
 */
function retryAfterOf(headers: Headers): number {
  const after = headers.get("retry-after") ?? /\br=0\b.*?\bt=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1] ?? "";
  if (/^\d+$/.test(after)) return Number(after) * 1000;
  const date = Date.parse(after);
  return Number.isNaN(date) ? 0 : Math.max(0, date - Date.now());
}
