import { InputError } from "../errors.js";
import { isJsonObject } from "../safetensors/json.js";
import type { SteadyOptions } from "./attempts.js";
import { onEndpoint, type Hub, type HubRepo } from "./hub.js";
import { refusalOf } from "./refusal.js";
import { RemoteFile } from "./remote-file.js";
import { steadyFetch } from "./steady-fetch.js";
import { told } from "./told.js";

/** A file as the Hub's tree lists it. */
export interface RepoFile {
  readonly size: number;
  /** Of large files, which the Hub keeps as LFS objects. */
  readonly sha256?: string;
  /** Git's id of the file, or of the pointer to it. */
  readonly oid: string;
}

/** A thousand files a page: more than any repo has that is read here. */
const MAX_PAGES = 1000;

/** The commit to which a branch, a tag, `refs/pr/1` or a commit leads; `InputError` where the Hub has none, or will not show it. */
export async function resolveRevision(hub: Hub, repo: HubRepo, revision = "main", options: SteadyOptions = {}): Promise<{ commit: string }> {
  const url = `${apiOf(hub, repo)}/revision/${encodeURIComponent(revision)}`;
  const { json } = await ask(hub, repo, url, revision, options);
  const commit = isJsonObject(json) ? json.sha : undefined;
  if (typeof commit !== "string" || !/^[0-9a-f]{40}$/.test(commit)) throw new InputError(`${url}: the answer names no commit; is ${hub.endpoint} a Hub?`);
  return { commit };
}

/** All files of a commit by path, or those of one folder, subfolders too. */
export async function listRepo(
  hub: Hub, repo: HubRepo, commit: string, { folder = "", ...options }: SteadyOptions & { readonly folder?: string } = {},
): Promise<ReadonlyMap<string, RepoFile>> {
  const files = new Map<string, RepoFile>();
  let url: string | undefined = `${apiOf(hub, repo)}/tree/${commit}${folder === "" ? "" : `/${encodePath(folder)}`}?recursive=true&expand=false`;
  for (let page = 0; url !== undefined; page++) {
    if (page === MAX_PAGES) throw new InputError(`${apiOf(hub, repo)}/tree: has no end after ${MAX_PAGES} pages`);
    const { json, next } = await ask(hub, repo, url, folder === "" ? commit : folder, options);
    if (!Array.isArray(json)) throw new InputError(`${apiOf(hub, repo)}/tree: the answer is no list of files; is ${hub.endpoint} a Hub?`);
    for (const entry of json as unknown[]) {
      if (isJsonObject(entry) && entry.type !== "file") continue;
      const [path, file] = fileOf(entry, `${apiOf(hub, repo)}/tree`, hub);
      files.set(path, file);
    }
    url = next;
  }
  return files;
}

/** The files that were read, by hub and address: each knows where its CDN is, for as long as the hub object lives. */
const known = new WeakMap<Hub, Map<string, RemoteFile>>();

/**
 * Bytes [start, end) of a file at a commit. What a failed try left is asked for again from where it stopped. `InputError` where the file
 * is missing or shorter, changes under us, or the Hub gives up.
 */
export async function readRange(
  hub: Hub, repo: HubRepo, commit: string, path: string, start: number, end: number, options: SteadyOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  let files = known.get(hub);
  if (files === undefined) known.set(hub, (files = new Map<string, RemoteFile>()));
  const name = JSON.stringify([repo.type, repo.id, commit, path]);
  let file = files.get(name);
  if (file === undefined) files.set(name, (file = new RemoteFile(hub, repo, commit, path)));
  const bytes = new Uint8Array(end - start);
  await file.read(bytes, start, options);
  return bytes;
}

/** `org/name` → the repo's place in the API. */
export function apiOf({ endpoint }: Hub, { type, id }: HubRepo): string {
  return `${endpoint}/api/${type}s/${encodePath(id)}`;
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}

async function ask(hub: Hub, repo: HubRepo, url: string, what: string, options: SteadyOptions): Promise<{ json: unknown; next?: string }> {
  const response = await steadyFetch(hub, options)(url, { headers: { accept: "application/json" } });
  if (!response.ok) throw await refusalOf(response, hub, repo, what);
  const text = await response.text();
  const link = /<([^>]+)>\s*;\s*rel="?next"?/.exec(response.headers.get("link") ?? "")?.[1];
  try {
    return { json: JSON.parse(text) as unknown, ...(link !== undefined && { next: onEndpoint(hub, new URL(link, response.url).href) }) };
  } catch {
    throw new InputError(`${url}: the answer is not JSON, but ${told(hub, text, 60)}; is ${hub.endpoint} a Hub, or is there a proxy with a page of its own between?`);
  }
}

function fileOf(entry: unknown, where: string, hub: Hub): [string, RepoFile] {
  const { path, size, oid, lfs } = isJsonObject(entry) ? entry : {};
  const sha256 = isJsonObject(lfs) ? lfs.oid : undefined;
  const sound = typeof path === "string" && Number.isSafeInteger(size) && Number(size) >= 0 && typeof oid === "string" && (sha256 === undefined || (typeof sha256 === "string" && /^[0-9a-f]{64}$/.test(sha256)));
  if (!sound) throw new InputError(`${where}: lists a file without a proper path, size or hash: ${told(hub, entry)}`);
  return [path, { size: Number(size), oid, ...(sha256 !== undefined && { sha256 }) }];
}
