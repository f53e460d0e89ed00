// What a loopback Hub keeps: repos with their commits, branches and pull requests, and the large files beside them, by SHA-256.
import { createHash } from "node:crypto";

export type RepoType = "model" | "dataset";

export interface StoredFile {
  readonly bytes: Uint8Array;
  /** Git's id of the file, or of the pointer to it. */
  readonly oid: string;
  /** Of large files, which Git keeps as a pointer only. */
  readonly sha256?: string;
}

export interface Commit {
  readonly oid: string;
  readonly title: string;
  readonly message: string;
  readonly parent: string | undefined;
  readonly files: ReadonlyMap<string, StoredFile>;
}

/** An LFS pointer has this many bytes, but for the digits of the size. */
export const POINTER_BYTES = 134;
/** What is larger than this is not for Git. */
const LARGEST_REGULAR = 10 * 1024 * 1024;

export class Repo {
  /** Large files that were sent up, committed or not, by SHA-256. */
  readonly large = new Map<string, Uint8Array>();
  /** `refs/heads/main`, `refs/pr/1` → commit. */
  readonly refs = new Map<string, string>();
  private readonly commits = new Map<string, Commit>();

  constructor(
    readonly type: RepoType,
    readonly id: string,
    readonly isPrivate: boolean,
    readonly gated: "auto" | "manual" | undefined,
  ) {}

  /** The commit that a branch, `refs/pr/N`, or a commit's own name means. */
  at(revision: string): Commit | undefined {
    return this.commits.get(this.refs.get(refOf(revision)) ?? revision);
  }

  /** Puts a commit on a ref, which is made if it is not there. */
  commit(ref: string, parent: Commit | undefined, files: ReadonlyMap<string, StoredFile>, title: string, message = ""): Commit {
    const listed = [...files].map(([path, { oid }]) => `${path} ${oid}`).sort();
    const oid = sha1(["commit", this.id, parent?.oid ?? "", title, message, ...listed].join("\n"));
    const commit = { oid, title, message, parent: parent?.oid, files };
    this.commits.set(oid, commit);
    this.refs.set(ref, oid);
    return commit;
  }

  /** A commit and all before it, the youngest first. */
  history(commit: Commit | undefined): Commit[] {
    const found: Commit[] = [];
    for (let at = commit; at !== undefined; at = at.parent === undefined ? undefined : this.commits.get(at.parent)) found.push(at);
    return found;
  }

  /** A file as it is kept. */
  stored(path: string, bytes: Uint8Array): StoredFile {
    if (!isLarge(path, bytes)) return { bytes, oid: gitOid(bytes) };
    const sha256 = sha256Of(bytes);
    this.large.set(sha256, bytes);
    return this.pointerTo(sha256)!;
  }

  /** A large file that was sent up, as a commit holds it. */
  pointerTo(sha256: string): StoredFile | undefined {
    const bytes = this.large.get(sha256);
    return bytes && { bytes, sha256, oid: gitOid(Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${bytes.length}\n`)) };
  }
}

/** `main` → `refs/heads/main`, and so does `HEAD`; `refs/…` as it is. */
export function refOf(revision: string): string {
  return revision.startsWith("refs/") ? revision : `refs/heads/${revision === "HEAD" ? "main" : revision}`;
}

/** Whether the Hub wants a file as an LFS object: by its name, its size, or because it is no text. */
export function isLarge(path: string, sample: Uint8Array, size = sample.length): boolean {
  return size > 0 && (/\.(?:safetensors|parquet|gz|bin|gguf|onnx|pt|zip)$/.test(path) || size > LARGEST_REGULAR || sample.subarray(0, 512).includes(0));
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function gitOid(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}

function sha1(text: string): string {
  return createHash("sha1").update(text).digest("hex");
}
