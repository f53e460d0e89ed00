// The routes by which a repo is read.
import { json, refuse, type Answer, type Call } from "./answers.js";
import { POINTER_BYTES, type Commit, type Repo, type StoredFile } from "./repos.js";

const DATE = "2026-01-01T00:00:00.000Z";

export function info(repo: Repo, commit: Commit, { url }: Call): Answer {
  const withBlobs = url.searchParams.has("blobs");
  return json({
    _id: commit.oid.slice(0, 24), id: repo.id, ...(repo.type === "model" && { modelId: repo.id }), author: repo.id.split("/")[0], sha: commit.oid,
    private: repo.isPrivate, gated: repo.gated ?? false, disabled: false, tags: [], downloads: 0, likes: 0, lastModified: DATE, createdAt: DATE,
    siblings: [...commit.files].map(([rfilename, { bytes, oid, sha256 }]) => ({
      rfilename,
      ...(withBlobs && { size: bytes.length, blobId: oid, ...(sha256 !== undefined && { lfs: { sha256, size: bytes.length, pointerSize: POINTER_BYTES } }) }),
    })),
  });
}

export function tree({ files }: Commit, folder: string, { url }: Call, origin: string, pageSize: number): Answer {
  const prefix = folder === "" ? "" : `${folder}/`;
  const inside = [...files.keys()].filter((path) => path.startsWith(prefix));
  if (inside.length === 0 && folder !== "") return refuse(404, `${folder} does not exist on this revision`, "EntryNotFound");
  const recursive = ["true", "True", "1"].includes(url.searchParams.get("recursive") ?? "");
  const folders = new Set(inside.flatMap((path) => [...path.slice(prefix.length).matchAll(/\//g)].map(({ index }) => path.slice(0, prefix.length + index))));
  const paths = [...folders, ...inside].filter((path) => recursive || !path.slice(prefix.length).includes("/")).sort();
  const from = Number(url.searchParams.get("cursor") ?? 0);
  const to = from + Math.min(pageSize, Number(url.searchParams.get("limit") ?? pageSize));
  const next = new URL(url.pathname + url.search, origin);
  next.searchParams.set("cursor", String(to));
  return json(paths.slice(from, to).map((path) => entry(path, files.get(path))), 200, to < paths.length ? { link: `<${next.href}>; rel="next"` } : {});
}

export function pathsInfo({ files }: Commit, { body, headers }: Call): Answer {
  const text = Buffer.from(body).toString();
  // Python's client sends a form.
  const isForm = headers["content-type"]?.startsWith("application/x-www-form-urlencoded") === true;
  const { paths } = isForm ? { paths: new URLSearchParams(text).getAll("paths") } : (JSON.parse(text) as { paths: string | string[] });
  return json([paths].flat().filter((path) => files.has(path)).map((path) => entry(path, files.get(path))));
}

function entry(path: string, file: StoredFile | undefined): object {
  if (!file) return { type: "directory", path, size: 0, oid: "0".repeat(40) };
  const { bytes, oid, sha256 } = file;
  return { type: "file", path, size: bytes.length, oid, ...(sha256 !== undefined && { lfs: { oid: sha256, size: bytes.length, pointerSize: POINTER_BYTES } }) };
}

/** Where a file is: a large one on the CDN, under its signature; a small one behind the Hub's own cache. */
export function resolve(repo: Repo, commit: Commit, path: string, onCdn: (sha256: string) => string): Answer {
  const file = commit.files.get(path);
  if (!file) return missingFile(commit);
  const { bytes, oid, sha256 } = file;
  const headers = { "x-repo-commit": commit.oid, "x-linked-etag": `"${sha256 ?? oid}"`, "x-linked-size": bytes.length };
  // As huggingface_hub's utils/_xet.py reads them; of no use to who does not speak xet.
  const xet = { "x-xet-hash": sha256 ?? "", link: `<https://huggingface.co/api/${repo.type}s/${repo.id}/xet-read-token/${commit.oid}>; rel="xet-auth"` };
  if (sha256 !== undefined) return { status: 302, headers: { ...headers, ...xet, location: onCdn(sha256) } };
  const cached = `/api/resolve-cache/${repo.type}s/${repo.id}/${commit.oid}/${path.split("/").map(encodeURIComponent).join("/")}`;
  return { status: 307, headers: { ...headers, location: `${cached}?etag=%22${oid}%22` } };
}

export function cachedFile(commit: Commit, path: string): Answer {
  const file = commit.files.get(path);
  return file ? { status: 200, headers: { "x-repo-commit": commit.oid, etag: `"${file.oid}"` }, body: file.bytes, file: true } : missingFile(commit);
}

function missingFile({ oid }: Commit): Answer {
  return refuse(404, "Entry not found", "EntryNotFound", { "x-repo-commit": oid });
}

export function refs(repo: Repo, { url }: Call): Answer {
  const named = (prefix: string) => [...repo.refs].filter(([ref]) => ref.startsWith(prefix)).map(([ref, targetCommit]) => ({ name: ref.slice(prefix.length), ref, targetCommit }));
  return json({ branches: named("refs/heads/"), converts: [], tags: [], ...(url.searchParams.has("include_prs") && { pullRequests: named("refs/pr/") }) });
}

export function history(repo: Repo, commit: Commit): Answer {
  return json(repo.history(commit).map(({ oid, title, message }) => ({ id: oid, title, message, date: DATE, authors: [{ user: "loopback" }] })));
}
