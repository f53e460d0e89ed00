import type { SteadyOptions } from "../hub/attempts.js";
import type { RetryEvent } from "../pipeline/events.js";

/** How requests to a Hub end, and who is told that one is made again. */
export function patienceOf(signal: AbortSignal | undefined, onEvent: ((event: RetryEvent) => void) | undefined): SteadyOptions {
  return { ...(signal && { signal }), ...(onEvent && { onRetry: (retry) => { onEvent({ type: "retry", ...retry }); } }) };
}
