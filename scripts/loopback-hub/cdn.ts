// The second port: large files by signed addresses, which expire. It wants no token, and as S3 does refuses whoever shows one.
import { createHash, randomBytes } from "node:crypto";
import type { Answer, Call, Fault } from "./answers.js";
import { sha256Of, type Repo } from "./repos.js";

/** An upload in parts that is not complete. */
interface Parts {
  readonly repo: Repo;
  readonly sha256: string;
  readonly size: number;
  readonly got: Map<number, Uint8Array>;
}

export class Cdn {
  /** Set once the ports are known: itself, and another host that has the same files. */
  url = "";
  other = "";
  readonly uploads = new Map<string, Parts>();
  /** Signature → what it is for. */
  private readonly signed = new Map<string, { readonly repo: Repo; readonly what: string }>();

  /** An address that serves, or takes, a large file until it expires. */
  address(repo: Repo, method: "GET" | "PUT", sha256: string, query: Readonly<Record<string, string>> = {}): string {
    // What xet stores, which today is all that is large, is read through a bridge by those that do not speak xet.
    const path = `/${method === "GET" ? "xet-bridge-us" : "repos"}/${repo.type}s/${repo.id}/${sha256}`;
    const signature = randomBytes(16).toString("hex");
    this.signed.set(signature, { repo, what: `${method} ${path}` });
    return `${this.url}${path}?${new URLSearchParams({ ...query, "X-Amz-Expires": "3600", "X-Amz-Signature": signature }).toString()}`;
  }

  /** Whatever was signed up to now is refused from now on. */
  expireAll(): void {
    this.signed.clear();
  }

  answer({ method, url, headers, body }: Call, fault: Fault | undefined): Answer {
    const signature = url.searchParams.get("X-Amz-Signature") ?? "";
    if (fault === "elsewhere") return { status: 307, headers: { location: this.other + url.pathname + url.search } };
    if (fault === "expired") this.signed.delete(signature);
    if (headers.authorization !== undefined) return refuse(400, "InvalidArgument", "Only one auth mechanism allowed");
    const rights = this.signed.get(signature);
    if (rights?.what !== `${method === "HEAD" ? "GET" : method} ${url.pathname}`) return refuse(403, "AccessDenied", "Request has expired");
    const sha256 = url.pathname.split("/").at(-1)!;
    if (method === "PUT") return this.take(rights.repo, sha256, url.searchParams, headers["content-length"], body);
    const bytes = rights.repo.large.get(sha256);
    // Its own ETag is not the file's SHA-256; that is told by the redirect.
    return bytes ? { status: 200, headers: { etag: etagOf(Buffer.from(sha256)) }, body: bytes, file: true } : refuse(404, "NoSuchKey", "The specified key does not exist.");
  }

  private take(repo: Repo, sha256: string, query: URLSearchParams, length: string | undefined, body: Uint8Array): Answer {
    if (length === undefined) return refuse(411, "MissingContentLength", "You must provide the Content-Length HTTP header.");
    if (body.length !== Number(length)) return refuse(400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header");
    const id = query.get("uploadId");
    if (id !== null) {
      const upload = this.uploads.get(id);
      if (!upload) return refuse(404, "NoSuchUpload", "The specified upload does not exist.");
      upload.got.set(Number(query.get("partNumber")), body);
    } else {
      if (sha256Of(body) !== sha256) return refuse(400, "BadDigest", "The digest you specified did not match what we received.");
      repo.large.set(sha256, body);
    }
    return { status: 200, headers: { etag: etagOf(body) } };
  }
}

/** What S3 calls a part: its MD5. */
export function etagOf(part: Uint8Array): string {
  return `"${createHash("md5").update(part).digest("hex")}"`;
}

/** As S3 says it: XML. */
function refuse(status: number, code: string, message: string): Answer {
  return { status, headers: { "content-type": "application/xml" }, body: `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>` };
}
