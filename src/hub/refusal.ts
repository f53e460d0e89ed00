import { InputError } from "../errors.js";
import { quote } from "../safetensors/json.js";
import type { Hub, HubRepo } from "./hub.js";
import { statusOf } from "./statuses.js";
import { told } from "./told.js";

/** What the Hub says of repos that it has closed. */
const DISABLED = "Access to this resource is disabled.";

/** The page that a person opens for a repo. */
export function pageOf({ endpoint }: Hub, { type, id }: HubRepo): string {
  return `${endpoint}/${type === "dataset" ? "datasets/" : ""}${id}`;
}

/**
 * What the Hub will not do, in words that say what to do. The Hub tells its reason in `X-Error-Code` and `X-Error-Message`; to who has
 * no token it answers 401 for missing and private repos alike.
 * @param what the revision or file that was asked for, for the message
 */
export async function refusalOf(response: Response, hub: Hub, repo: HubRepo, what?: string): Promise<InputError> {
  const page = pageOf(hub, repo);
  const kind = repo.type === "dataset" ? "data set" : "model";
  const code = response.headers.get("x-error-code");
  const said = await messageOf(response, hub);
  const { status } = response;
  const tokens = `${hub.endpoint}/settings/tokens`;
  const login = "log in with `hf auth login` or set HF_TOKEN";
  const refuse = (text: string) => new InputError(`${page}: ${text}`);

  if (code === "GatedRepo") {
    return hub.token === undefined
      ? refuse(`this ${kind} is gated; accept its conditions on that page, then ${login}`)
      : refuse(`this ${kind} is gated, and the token's account has no access; accept its conditions on that page (a fine-grained token also needs access to gated repos: ${tokens})`);
  }
  if (code === "RevisionNotFound") return refuse(`has no revision ${what === undefined ? "of this name" : quote(what)}; ${page}/tree/main lists its branches and tags`);
  if (code === "EntryNotFound") return refuse(`has no file ${what === undefined ? "of this name" : quote(what)}; ${page}/tree/main lists its files`);
  if (status === 401 && hub.token !== undefined && code !== "RepoNotFound") return refuse(`the Hub does not accept the token; make a new one at ${tokens}, and ${login}`);
  if (code === "RepoNotFound" || status === 401 || status === 404) {
    return hub.token === undefined
      ? refuse(`there is no such ${kind}, or it is private; check the name on that page, and for a private one ${login}`)
      : refuse(`there is no such ${kind}, or the token may not see it; check the name on that page, and the token's rights at ${tokens}`);
  }
  if (status === 403 && response.headers.get("x-error-message") === DISABLED) return refuse(`the Hub has disabled access to this ${kind}`);
  if (status === 403) {
    const why = said === undefined ? "" : ` (${said})`;
    return hub.token === undefined ? refuse(`the Hub refuses this without a token${why}; ${login}`) : refuse(`the token may not do this${why}; give it the right at ${tokens}`);
  }
  return refuse(`the Hub answered with ${statusOf(response)}${said === undefined ? "" : `: ${said}`}`);
}

/** What the Hub says itself, cut to a line. */
async function messageOf(response: Response, hub: Hub): Promise<string | undefined> {
  const text = response.headers.get("x-error-message") ?? errorOf(await response.text().catch(() => ""));
  return text === undefined ? undefined : told(hub, text);
}

function errorOf(body: string): string | undefined {
  try {
    const { error } = JSON.parse(body) as { error?: unknown };
    return typeof error === "string" ? error : undefined;
  } catch {
    return undefined;
  }
}
