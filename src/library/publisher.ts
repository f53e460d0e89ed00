import { InputError } from "../errors.js";
import type { SteadyOptions } from "../hub/attempts.js";
import { hubOfEnvironment } from "../hub/environment.js";
import { type PushEvent, uploadTeller } from "../pipeline/push.js";
import { openHubPublisher, type PublishTo } from "../publish/hub-publisher.js";
import type { Publisher } from "../publish/publisher.js";
import { hubCacheOfEnvironment } from "../source/hub-cache.js";

/** Opens a repo on the Hub to publish to, unless the environment forbids it. */
export async function publisherOf(to: PublishTo, onEvent: ((event: PushEvent) => void) | undefined, patience: SteadyOptions): Promise<Publisher> {
  if (hubCacheOfEnvironment().offline) throw new InputError(`${to.repo}: HF_HUB_OFFLINE is set, so that nothing can be published; unset it`);
  return openHubPublisher(await hubOfEnvironment(), to, { ...patience, ...(onEvent && { onBytes: uploadTeller(onEvent) }) });
}
