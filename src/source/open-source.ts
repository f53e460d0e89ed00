import { InputError } from "../errors.js";
import { hubAddressOf } from "../hub/address.js";
import type { SteadyOptions } from "../hub/attempts.js";
import { hubOfEnvironment } from "../hub/environment.js";
import { isThere, openFolder } from "./folder.js";
import { openHub, type ClosableSource } from "./hub.js";
import { hubCacheOfEnvironment } from "./hub-cache.js";

export interface OpenOptions extends SteadyOptions {
  /** Which commit of a repo is wanted where the text names no revision and that commit still exists. */
  readonly commitOf?: (repo: string) => string | undefined;
}

/** Opens what a person calls a model: a folder where there is one of this name, or else `org/name`, `org/name@revision` or a Hub URL. Throws `InputError`. */
export async function openSource(text: string, { commitOf, ...options }: OpenOptions = {}): Promise<ClosableSource> {
  if (await isThere(text)) return openFolder(text);
  const hub = await hubOfEnvironment();
  const address = hubAddressOf(text, hub.endpoint);
  // It says that there is no such folder.
  if (address === undefined) return openFolder(text);
  const { repo, revision } = address;
  if (repo.type !== "model") throw new InputError(`${text}: is a data set; give a model`);
  const open = (wanted: string | undefined): ReturnType<typeof openHub> =>
    openHub(hub, repo, wanted, { ...options, cache: hubCacheOfEnvironment() }).catch((error: unknown) => {
      options.signal?.throwIfAborted();
      throw neither(error, text);
    });
  const begun = revision === undefined ? commitOf?.(repo.id) : undefined;
  // That commit may have been rewritten away: then it is another run, which says so. Whatever else is the matter shows once more.
  return begun === undefined ? await open(revision) : await open(begun).catch(() => open(revision));
}

/** What looks like a repo's name may have been meant as a folder. */
function neither(error: unknown, text: string): unknown {
  if (!(error instanceof InputError) || text.includes("://") || text.includes("@")) return error;
  return new InputError(`${text}: no such folder, and as a repo on the Hub: ${error.message}`, { cause: error });
}
