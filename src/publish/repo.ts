import { InputError } from "../errors.js";
import { hubAddressOf } from "../hub/address.js";
import type { Hub, HubRepo } from "../hub/hub.js";
import { pageOf, refusalOf } from "../hub/refusal.js";
import { apiOf } from "../hub/repo-files.js";
import { isJsonObject, quote } from "../safetensors/json.js";
import { wantedLarge } from "./commit.js";
import { jsonOf, type Destination } from "./destination.js";

/** Throws `InputError` for what is no `org/name`. */
export function repoNamed(text: string, { endpoint }: Hub): HubRepo {
  const address = hubAddressOf(text, endpoint);
  if (address?.repo.type !== "model" || !address.repo.id.includes("/")) throw new InputError(`${quote(text)} is not the name of a model repo; give org/name, the organization or user first`);
  if (address.revision !== undefined) throw new InputError(`${quote(text)} names a revision; give ${address.repo.id}, and the branch with --revision`);
  return address.repo;
}

/**
 * Makes the repo, and the branch, if they are not there, and finds out whether the token may write to them: better now than after hours.
 * Throws `InputError` saying what to do.
 */
export async function openRepo(to: Destination, isPrivate: boolean): Promise<void> {
  const { hub, repo, branch } = to;
  const { token } = hub;
  const tokens = `${hub.endpoint}/settings/tokens`;
  if (token === undefined) throw new InputError(`${pageOf(hub, repo)}: publishing needs a token that may write; make one at ${tokens}, then log in with \`hf auth login\` or set HF_TOKEN`);
  await checkToken(to, tokens);
  const [organization, name] = repo.id.split("/");
  const made = await ask(to, `${hub.endpoint}/api/repos/create`, { type: repo.type, organization, name, ...(isPrivate && { visibility: "private" }) });
  if (!made.ok) await checkStanding(to, made, isPrivate);
  if (branch !== "main") {
    const branched = await ask(to, `${apiOf(hub, repo)}/branch/${encodeURIComponent(branch)}`, {});
    // 409: it is there.
    if (!branched.ok && branched.status !== 409) throw await refusalOf(branched, hub, repo);
  }
  await wantedLarge(to, [["config.json", new TextEncoder().encode("{}")]]);
}

/** A token that may only read says so by itself. What a fine-grained one may do is seen when it is tried. */
async function checkToken({ hub, repo, send }: Destination, tokens: string): Promise<void> {
  const response = await send(`${hub.endpoint}/api/whoami-v2`, { headers: { accept: "application/json" } });
  if (!response.ok) throw await refusalOf(response, hub, repo);
  const answer = await jsonOf(response);
  const auth = isJsonObject(answer) ? answer.auth : undefined;
  const accessToken = isJsonObject(auth) ? auth.accessToken : undefined;
  if (isJsonObject(accessToken) && accessToken.role === "read") {
    throw new InputError(`${pageOf(hub, repo)}: the token may only read; make one that may write at ${tokens}, then log in with \`hf auth login\` or set HF_TOKEN`);
  }
}

/** A repo that could not be made: it is there already, or this token may not make it, which is no harm if it is there. */
async function checkStanding(to: Destination, refused: Response, isPrivate: boolean): Promise<void> {
  const { hub, repo } = to;
  if (![401, 402, 403, 409].includes(refused.status)) throw await refusalOf(refused, hub, repo);
  const info = await to.send(apiOf(hub, repo), { headers: { accept: "application/json" } });
  if (!info.ok) throw await refusalOf(refused.status === 409 ? info : refused, hub, repo);
  const answer = await jsonOf(info);
  if (isPrivate && isJsonObject(answer) && answer.private === false) {
    throw new InputError(`${pageOf(hub, repo)}: is there already, and public; make it private at ${pageOf(hub, repo)}/settings, or leave out --private`);
  }
}

function ask({ send }: Destination, url: string, body: unknown): Promise<Response> {
  return send(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}
