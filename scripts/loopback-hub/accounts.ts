// Who asks, and what they may see and write.
import { refuse, type Answer, type Call } from "./answers.js";
import type { Repo } from "./repos.js";

export interface Account {
  readonly name: string;
  /** Namespaces beside their own that they may see and write; `*` is every one. */
  readonly orgs?: readonly string[];
  /** Whether the token may write. Default true. */
  readonly write?: boolean;
  /** Gated repos whose conditions they accepted. */
  readonly accepted?: readonly string[];
}

/** What stands behind the token of a request: `undefined` where it carries none, a refusal where nobody has that token. */
export function accountOf({ headers }: Call, accounts: ReadonlyMap<string, Account>): Account | undefined | Answer {
  if (headers.authorization === undefined) return undefined;
  return accounts.get(headers.authorization.replace(/^Bearer /, "")) ?? refuse(401, "Invalid credentials in Authorization header");
}

export function belongsTo(account: Account | undefined, id: string): boolean {
  const [namespace] = id.split("/");
  return account !== undefined && ((account.name === namespace || account.orgs?.some((org) => org === namespace || org === "*") === true));
}

/** To those who may not see it a private repo is as good as none; without a token, missing is not told from private. */
export function missing(account: Account | undefined): Answer {
  return account ? refuse(404, "Repository not found", "RepoNotFound") : refuse(401, "Invalid username or password.", "RepoNotFound");
}

/** Whether a repo's files may be read; its info may be by all who see it. */
export function gateOf(repo: Repo, account: Account | undefined): Answer | undefined {
  if (repo.gated === undefined || account?.accepted?.includes(repo.id) === true || belongsTo(account, repo.id)) return undefined;
  const restricted = `Access to ${repo.type} ${repo.id} is restricted`;
  return account
    ? refuse(403, `${restricted} and you are not in the authorized list. Visit /${repo.type === "dataset" ? "datasets/" : ""}${repo.id} to ask for access.`, "GatedRepo")
    : refuse(401, `${restricted}. You must have access to it and be authenticated to access it. Please log in.`, "GatedRepo");
}

export function writing(repo: Repo, account: Account | undefined): Answer | undefined {
  if (account && account.write !== false && belongsTo(account, repo.id)) return undefined;
  return account ? refuse(403, "Forbidden: pass a token with the right to write to this repo") : refuse(401, "Invalid username or password.");
}
