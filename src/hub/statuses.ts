import { Broken } from "./attempts.js";

/** For messages: the status, and the id under which the Hub's own people find the request; no id is what a token may stand in. */
export function statusOf({ status, headers }: Response): string {
  const id = headers.get("x-request-id") ?? headers.get("x-amz-cf-id");
  return `status ${status}${id !== null && /^(?!.*hf_)[\w=+/:.;-]{1,160}$/.test(id) ? ` (request id ${id})` : ""}`;
}

/**
 * An operation that the Hub refuses while another one of its kind is under way: "Another commit operation is in progress for this repository", and when
 * repos are made, "another conflicting operation is in progress" (https://github.com/huggingface/huggingface_hub/pull/1675).
 */
export async function busyOf(response: Response): Promise<Broken | undefined> {
  return response.status === 409 && /operation is in progress/.test(await response.clone().text()) ? new Broken("another operation is in progress there") : undefined;
}

/** What the next try may cure: too many requests, and a server in trouble. */
export function brokenOf(response: Response): Broken | undefined {
  const { status } = response;
  return status === 408 || status === 429 || status >= 500 ? new Broken(statusOf(response), retryAfterOf(response.headers)) : undefined;
}

/**
 * Milliseconds: `Retry-After` in seconds or as a date (RFC 9110 10.2.3), or else the `t` of `RateLimit: "api";r=0;t=55`, seconds to the
 * end of the window, rounded down, which the Hub sends with all its answers: https://huggingface.co/docs/hub/rate-limits.
 */
function retryAfterOf(headers: Headers): number {
  const windowEnd = /\br=0\b.*?\bt=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1];
  const after = headers.get("retry-after") ?? (windowEnd === undefined ? "" : String(Number(windowEnd) + 1));
  if (/^\d+$/.test(after)) return Number(after) * 1000;
  const date = Date.parse(after);
  return Number.isNaN(date) ? 0 : Math.max(0, date - Date.now());
}
