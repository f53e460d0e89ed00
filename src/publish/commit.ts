import { digestOf } from "../digest.js";
import { InputError } from "../errors.js";
import { pageOf, refusalOf } from "../hub/refusal.js";
import { apiOf, listRepo, resolveRevision, type RepoFile } from "../hub/repo-files.js";
import { isJsonObject } from "../safetensors/json.js";
import { jsonOf, post, type Destination } from "./destination.js";
import { sendLargeFile } from "./lfs.js";
import type { LargeFile, Published } from "./publisher.js";
import { CHECKPOINT_FILE } from "./weights.js";

/** As Python's client does it. */
const FILES_A_PREUPLOAD = 256;
/** The Hub decides by them whether a file is text. */
const SAMPLE_BYTES = 512;

/** A line of the commit, as the Hub reads it. */
type Line = { readonly key: "header" | "file" | "lfsFile" | "deletedFile"; readonly value: Readonly<Record<string, string | number>> };

/**
 * Commits large files that were sent, and small ones, at once: https://huggingface.co/docs/hub/api#repo-settings-api and what the ecosystem's
 * clients send, NDJSON. What stands there already is left out, and weights that stand there and are none of these go. Throws `InputError`.
 */
export async function commitFiles(to: Destination, summary: string, large: readonly LargeFile[], files: ReadonlyMap<string, Uint8Array>): Promise<Published> {
  const { commit: parent } = await resolveRevision(to.hub, to.repo, to.branch, to.options);
  const lines = await changes(to, parent, large, files);
  const page = pageOf(to.hub, to.repo);
  const branchPage = to.branch === "main" ? page : `${page}/tree/${encodeURIComponent(to.branch)}`;
  if (lines.length === 0) return { url: branchPage, changed: false };

  const url = `${apiOf(to.hub, to.repo)}/commit/${encodeURIComponent(to.branch)}${to.createPr ? "?create_pr=1" : ""}`;
  const body = [{ key: "header", value: { summary, description: "", parentCommit: parent } } satisfies Line, ...lines].map((line) => `${JSON.stringify(line)}\n`).join("");
  const response = await send(to, url, body);
  // Somebody else committed; or we did, and the answer was lost.
  if (response.status === 412 || response.status === 409) {
    const { commit: now } = await resolveRevision(to.hub, to.repo, to.branch, to.options);
    if (now !== parent && (await changes(to, now, large, files)).length === 0) return { url: branchPage, changed: true };
    throw new InputError(`${page}: another commit was made to ${to.branch} at the same moment; run the same command again, nothing is sent twice`);
  }
  if (!response.ok) throw await refusalOf(response, to.hub, to.repo);
  const answer = await jsonOf(response);
  const opened = isJsonObject(answer) ? answer.pullRequestUrl : undefined;
  if (to.createPr && typeof opened !== "string") throw new InputError(`${page}: the Hub does not say which pull request it opened; see ${page}/discussions`);
  return { url: to.createPr ? String(opened) : branchPage, changed: true };
}

async function send(to: Destination, url: string, body: string): Promise<Response> {
  const init = { method: "POST", headers: { "content-type": "application/x-ndjson" } };
  if (!to.createPr) return await to.send(url, { ...init, body });
  try {
    // A stream is sent once and not again: an answer that is lost must not open a second pull request.
    return await to.send(url, { ...init, body: new Blob([body]).stream(), duplex: "half" } as RequestInit);
  } catch (error) {
    if (!(error instanceof InputError) || error === to.options.signal?.reason) throw error;
    throw new InputError(`${error.message}; see whether the pull request is at ${pageOf(to.hub, to.repo)}/discussions, and if not, run the same command again`);
  }
}

/** What must become of each file for the commit to follow `parent`; small files that the Hub wants as large ones are sent. */
async function changes(to: Destination, parent: string, large: readonly LargeFile[], files: ReadonlyMap<string, Uint8Array>): Promise<Line[]> {
  const standing = await listRepo(to.hub, to.repo, parent, to.options);
  const kept = new Set([...large.map(({ name }) => name), ...files.keys()]);
  const small: [string, Uint8Array<ArrayBuffer>][] = [];
  for (const [name, given] of files) {
    const bytes = new Uint8Array(given);
    if (!(await isSame(standing.get(name), bytes))) small.push([name, bytes]);
  }
  const asLarge = await wantedLarge(to, small);
  const lines: Line[] = [];
  for (const file of large) if (standing.get(file.name)?.sha256 !== file.sha256) lines.push(lfsLine(file));
  for (const [name, bytes] of small) {
    if (asLarge.has(name) && bytes.length > 0) {
      const file = { name, size: bytes.length, sha256: await digestOf("SHA-256", bytes) };
      await sendLargeFile(to, file, new Blob([bytes]), () => undefined);
      lines.push(lfsLine(file));
    } else lines.push({ key: "file", value: { path: name, encoding: "base64", content: base64(bytes) } });
  }
  // Of GGUF files a repo may hold several, one a size, and each is a model of its own.
  for (const name of standing.keys()) if (CHECKPOINT_FILE.test(name) && !name.endsWith(".gguf") && !kept.has(name)) lines.push({ key: "deletedFile", value: { path: name } });
  return lines;
}

function lfsLine({ name, size, sha256 }: LargeFile): Line {
  return { key: "lfsFile", value: { path: name, algo: "sha256", oid: sha256, size } };
}

async function isSame(standing: RepoFile | undefined, bytes: Uint8Array<ArrayBuffer>): Promise<boolean> {
  if (standing?.size !== bytes.length) return false;
  if (standing.sha256 !== undefined) return standing.sha256 === (await digestOf("SHA-256", bytes));
  // Git's id of a file.
  return standing.oid === (await digestOf("SHA-1", await new Blob([`blob ${String(bytes.length)}\0`, bytes]).arrayBuffer()));
}

/** Which of these files the Hub wants as large ones. To ask also shows whether the token may write. */
export async function wantedLarge(to: Destination, files: readonly (readonly [string, Uint8Array])[]): Promise<ReadonlySet<string>> {
  const wanted = new Set<string>();
  for (let at = 0; at < files.length; at += FILES_A_PREUPLOAD) {
    const url = `${apiOf(to.hub, to.repo)}/preupload/${encodeURIComponent(to.branch)}`;
    const answer = await post(to, url + (to.createPr ? "?create_pr=1" : ""), {
      files: files.slice(at, at + FILES_A_PREUPLOAD).map(([path, bytes]) => ({ path, size: bytes.length, sample: base64(bytes.subarray(0, SAMPLE_BYTES)) })),
    });
    const told = isJsonObject(answer) ? answer.files : undefined;
    if (!Array.isArray(told)) throw new InputError(`${url}: the answer is no list of files; is ${to.hub.endpoint} a Hub?`);
    for (const file of told as unknown[]) if (isJsonObject(file) && file.uploadMode === "lfs") wanted.add(String(file.path));
  }
  return wanted;
}

function base64(bytes: Uint8Array): string {
  let text = "";
  // String.fromCharCode takes its arguments on the stack.
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}
