// The routes by which a repo is written: pre-upload, LFS, commits, branches, pull requests.
import { randomUUID } from "node:crypto";
import { json, refuse, type Answer, type Call } from "./answers.js";
import { etagOf, type Cdn } from "./cdn.js";
import { isLarge, refOf, sha256Of, type Commit, type Repo, type StoredFile } from "./repos.js";

/** Which files are to go up as LFS objects, and what stands under their names now. */
export function preupload({ files }: Commit, call: Call): Answer {
  const { files: asked } = bodyOf(call) as { files: { path: string; size: number; sample: string }[] };
  return json({
    files: asked.map(({ path, size, sample }) => {
      const oid = files.get(path)?.sha256 ?? files.get(path)?.oid;
      return { path, uploadMode: isLarge(path, Buffer.from(sample, "base64"), size) ? "lfs" : "regular", shouldIgnore: false, ...(oid !== undefined && { oid }) };
    }),
  });
}

/** Where each LFS object is to be sent; nowhere if it is here already. Objects larger than `partSize` go in parts, if the client can. */
export function lfsBatch(repo: Repo, call: Call, cdn: Cdn, origin: string, partSize: number): Answer {
  const { operation, transfers, objects } = bodyOf(call) as { operation: string; transfers?: string[]; objects: { oid: string; size: number }[] };
  if (operation !== "upload") return refuse(400, "Only uploads are served");
  if (objects.length > 1000) return refuse(413, "Too many objects");
  const multipart = transfers?.includes("multipart") === true && objects.some(({ size }) => size > partSize);
  return json({
    transfer: multipart ? "multipart" : "basic",
    objects: objects.map(({ oid, size }) => {
      if (!/^[0-9a-f]{64}$/.test(oid)) return { oid, size, error: { code: 422, message: "The oid is no SHA-256" } };
      if (repo.large.has(oid)) return { oid, size, authenticated: true };
      const verify = { href: `${origin}/${prefixOf(repo)}${repo.id}.git/info/lfs/objects/verify`, header: {} };
      return { oid, size, authenticated: true, actions: { upload: multipart && size > partSize ? inParts(repo, oid, size, cdn, origin, partSize) : { href: cdn.address(repo, "PUT", oid), header: {} }, verify } };
    }),
  }, 200, { "content-type": "application/vnd.git-lfs+json" });
}

function inParts(repo: Repo, sha256: string, size: number, cdn: Cdn, origin: string, partSize: number): object {
  const uploadId = randomUUID();
  cdn.uploads.set(uploadId, { repo, sha256, size, got: new Map() });
  const parts = Array.from({ length: Math.ceil(size / partSize) }, (_, i) => [String(i + 1).padStart(5, "0"), cdn.address(repo, "PUT", sha256, { uploadId, partNumber: String(i + 1) })]);
  return { href: `${origin}/api/complete_multipart?uploadId=${uploadId}`, header: { chunk_size: String(partSize), ...Object.fromEntries(parts) as Record<string, string> } };
}

/** Joins the parts of an upload; its id is all the right that it takes. */
export function completeMultipart(call: Call, cdn: Cdn): Answer {
  const { oid, parts } = bodyOf(call) as { oid: string; parts: { partNumber: number; etag: string }[] };
  const id = call.url.searchParams.get("uploadId") ?? "";
  const upload = cdn.uploads.get(id);
  // Asked a second time, since the first answer was lost, S3 knows the upload no more.
  if (upload?.sha256 !== oid) return refuse(404, "The specified multipart upload does not exist.");
  const bytes: Uint8Array[] = [];
  for (const [i, { partNumber, etag }] of parts.entries()) {
    const part = upload.got.get(partNumber);
    if (partNumber !== i + 1 || !part || etagOf(part) !== etag) return refuse(400, "One or more of the specified parts could not be found, or their ETags differ.");
    bytes.push(part);
  }
  const whole = Buffer.concat(bytes);
  if (whole.length !== upload.size || sha256Of(whole) !== oid) return refuse(400, "The object's hash or size is not as announced.");
  upload.repo.large.set(oid, whole);
  cdn.uploads.delete(id);
  return json({ success: true });
}

export function lfsVerify(repo: Repo, call: Call): Answer {
  const { oid, size } = bodyOf(call) as { oid: string; size: number };
  const bytes = repo.large.get(oid);
  if (!bytes) return refuse(404, "The object is not there");
  return bytes.length === size ? json({}) : refuse(422, "The object's size is not as announced");
}

export function createBranch(repo: Repo, branch: string, call: Call): Answer {
  const { startingPoint, overwrite } = bodyOf(call) as { startingPoint?: string; overwrite?: boolean };
  const from = repo.at(startingPoint ?? "main");
  if (!from) return refuse(404, `Invalid rev id: ${startingPoint ?? "main"}`, "RevisionNotFound");
  if (repo.refs.has(refOf(branch)) && overwrite !== true) return refuse(409, "Reference already exists");
  repo.refs.set(refOf(branch), from.oid);
  return json({ success: true });
}

type Line = { readonly key: string; readonly value: Readonly<Record<string, string | undefined>> };

/** One commit of lines of JSON: a header, then what becomes of each file. It is there as a whole or not at all. */
export function commit(repo: Repo, revision: string, call: Call, origin: string): Answer {
  const lines = Buffer.from(call.body).toString().split("\n").filter((line) => line.trim() !== "").map((line) => JSON.parse(line) as Line);
  const [header, ...changes] = lines;
  if (header?.key !== "header") return refuse(400, "The first line must be the header");
  const { summary, description, parentCommit } = header.value;
  if (summary === undefined || summary === "") return refuse(400, "A commit needs a summary");
  const head = repo.at(revision);
  if (!head) return refuse(404, `Invalid rev id: ${revision}`, "RevisionNotFound");
  const asPull = call.url.searchParams.get("create_pr") === "1";
  const parent = parentCommit === undefined ? head : repo.at(parentCommit);
  if (!parent) return refuse(404, `Invalid rev id: ${parentCommit!}`, "RevisionNotFound");
  if (!asPull && parent !== head) return refuse(412, "A commit has happened since. Please refresh and try again.");
  const files = new Map(parent.files);
  for (const change of changes) {
    const refused = apply(repo, files, change);
    if (refused) return refused;
  }
  const pull = [...repo.refs.keys()].filter((ref) => ref.startsWith("refs/pr/")).length + 1;
  const made = repo.commit(asPull ? `refs/pr/${pull}` : refOf(revision), parent, files, summary, description);
  const page = `${origin}/${prefixOf(repo)}${repo.id}`;
  return json({
    success: true, commitOid: made.oid, commitUrl: `${page}/commit/${made.oid}`, hookOutput: "",
    ...(asPull && { pullRequestUrl: `${page}/discussions/${pull}` }),
  });
}

function apply(repo: Repo, files: Map<string, StoredFile>, { key, value }: Line): Answer | undefined {
  const { path = "", content = "", encoding, oid = "" } = value;
  if (path === "" || path.split("/").some((part) => part === "" || part === "." || part === "..")) return refuse(400, `Invalid path in repo: ${path}`);
  switch (key) {
    case "file": {
      const bytes = Buffer.from(content, encoding === "base64" ? "base64" : "utf8");
      if (isLarge(path, bytes)) return refuse(400, `Your push was rejected because it contains binary or large files that belong in LFS: ${path}`);
      files.set(path, repo.stored(path, bytes));
      return undefined;
    }
    case "lfsFile": {
      const file = repo.pointerTo(oid);
      if (!file) return refuse(400, `LFS pointer pointed to a file that does not exist: ${path}`);
      files.set(path, file);
      return undefined;
    }
    case "deletedFile":
      return files.delete(path) ? undefined : refuse(400, `${path} is not there to be deleted`);
    case "deletedFolder":
      for (const name of files.keys()) if (name.startsWith(`${path}/`)) files.delete(name);
      return undefined;
    default:
      return refuse(400, `Unknown operation: ${key}`);
  }
}

/** What a page's or a file's address has before a repo's name. */
function prefixOf({ type }: Repo): string {
  return type === "dataset" ? "datasets/" : "";
}

function bodyOf({ body }: Call): unknown {
  return JSON.parse(Buffer.from(body).toString());
}
