import type { SteadyOptions } from "../hub/attempts.js";
import type { Hub, HubRepo } from "../hub/hub.js";
import { refusalOf } from "../hub/refusal.js";

/** A branch of a repo that is written to, and how it is reached. */
export interface Destination {
  readonly hub: Hub;
  readonly repo: HubRepo;
  readonly branch: string;
  /** Opens a pull request to the branch, and leaves the branch as it is. */
  readonly createPr: boolean;
  /** Patient, and with the token for the endpoint: what `steadyFetch` gives. */
  readonly send: typeof fetch;
  /** For the reads beside it, and the signal that ends it all. */
  readonly options: SteadyOptions;
}

/** Posts JSON, or text of another type; throws the Hub's refusal. */
export async function post(to: Destination, url: string, body: unknown, type = "application/json"): Promise<unknown> {
  const response = await to.send(url, { method: "POST", headers: { "content-type": type, accept: type === "application/vnd.git-lfs+json" ? type : "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw await refusalOf(response, to.hub, to.repo);
  return jsonOf(response);
}

/** An answer's JSON; undefined where it is none, which its reader finds wanting. */
export async function jsonOf(response: Response): Promise<unknown> {
  try {
    return JSON.parse(await response.text()) as unknown;
  } catch {
    return undefined;
  }
}
