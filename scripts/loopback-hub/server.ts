// A Hub on loopback that is read from: repos in memory, one commit each, their large files behind a redirect to a second port, the CDN,
// as the real one has them. It fails as it is told to. Python's huggingface_hub works against it (scripts/readers/read.py).
import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface LoopbackRepo {
  readonly type: "model" | "dataset";
  readonly id: string;
  readonly files: Readonly<Record<string, Uint8Array>>;
  /** Seen with the token only. */
  readonly private?: boolean;
}

/** How an answer goes wrong. */
export const FAULTS = ["429", "500", "503", "reset", "cut", "short", "long", "ignore-range", "expired"] as const;
export type Fault = (typeof FAULTS)[number];

export interface LoggedRequest {
  readonly port: "hub" | "cdn";
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly authorization: string | undefined;
  readonly fault: Fault | undefined;
  /** Bytes of a file that were sent, as far as the server knows. */
  sent: number;
}

export interface LoopbackOptions {
  readonly repos: readonly LoopbackRepo[];
  readonly token?: string;
  /** What becomes of a request; `count` is how many came before it. */
  readonly fault?: (request: { readonly count: number; readonly port: "hub" | "cdn"; readonly method: string }) => Fault | undefined;
}

export interface LoopbackHub {
  /** What HF_ENDPOINT is to be. */
  readonly url: string;
  readonly requests: readonly LoggedRequest[];
  close(): Promise<void>;
}

interface StoredRepo extends LoopbackRepo {
  readonly commit: string;
}

export async function startLoopbackHub({ repos, token, fault = () => undefined }: LoopbackOptions): Promise<LoopbackHub> {
  const stored = new Map<string, StoredRepo>(repos.map((repo) => [`${repo.type}s/${repo.id}`, { ...repo, commit: commitOf(repo) }]));
  const large = new Map<string, Uint8Array>();
  for (const { files } of repos) for (const [path, bytes] of Object.entries(files)) if (isLarge(path)) large.set(sha256Of(bytes), bytes);
  const requests: LoggedRequest[] = [];
  /** Signatures under which the CDN serves; each until it is said to have expired. */
  const signatures = new Set<string>();

  const logged = (port: "hub" | "cdn", answer: (request: IncomingMessage, response: ServerResponse, log: LoggedRequest) => void) =>
    createServer((request, response) => {
      const { method = "GET", url = "/" } = request;
      const log: LoggedRequest = { port, method, url, authorization: request.headers.authorization, fault: fault({ count: requests.length, port, method }), sent: 0 };
      requests.push(log);
      if (log.fault === "reset") request.socket.destroy();
      else if (log.fault === "429") response.writeHead(429, { "retry-after": "0" }).end();
      else if (log.fault === "500" || log.fault === "503") response.writeHead(Number(log.fault)).end("out of order");
      else answer(request, response, log);
    });

  const cdn = logged("cdn", (request, response, log) => {
    const { pathname, searchParams } = new URL(request.url!, "http://cdn");
    const signature = searchParams.get("signature") ?? "";
    if (log.fault === "expired") signatures.delete(signature);
    const bytes = large.get(pathname.slice(1));
    if (bytes === undefined) response.writeHead(404).end();
    else if (!signatures.has(signature)) response.writeHead(403).end("Request has expired");
    else sendFile(request, response, log, bytes, { etag: `"${pathname.slice(1)}"` });
  });
  const cdnUrl = await listening(cdn);

  const hub = logged("hub", (request, response, log) => {
    const path = decodeURIComponent(new URL(request.url!, "http://hub").pathname);
    const api = /^\/api\/((?:models|datasets)\/[^/]+\/[^/]+)(?:\/(revision|tree)\/([^/]+)(?:\/(.*))?)?$/.exec(path);
    const file = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.*)$/.exec(path);
    const repo = stored.get(api?.[1] ?? (file ? `${file[1] ?? "models/"}${file[2]}` : ""));
    const known = token !== undefined && log.authorization === `Bearer ${token}`;
    if (log.authorization !== undefined && !known) {
      response.writeHead(401, { "x-error-message": "Invalid credentials in Authorization header" }).end();
    } else if (repo === undefined || (repo.private === true && !known)) {
      // To those who may not see it a private repo is as good as none.
      response.writeHead(known ? 404 : 401, { "x-error-code": "RepoNotFound", "x-error-message": known ? "Repository not found" : "Invalid username or password." }).end();
    } else if (![undefined, "main", repo.commit].includes(api?.[3] ?? file?.[3])) {
      response.writeHead(404, { "x-error-code": "RevisionNotFound", "x-error-message": "Invalid rev id" }).end();
    } else if (api?.[2] === "tree") {
      json(response, Object.entries(repo.files).filter(([name]) => api[4] === undefined || name.startsWith(`${api[4]}/`)).map(([name, bytes]) => ({
        type: "file", path: name, size: bytes.length, oid: gitOidOf(isLarge(name) ? Buffer.from(sha256Of(bytes)) : bytes),
        ...(isLarge(name) && { lfs: { oid: sha256Of(bytes), size: bytes.length, pointerSize: 134 } }),
      })));
    } else if (api) {
      json(response, {
        _id: repo.commit.slice(0, 24), id: repo.id, ...(repo.type === "model" && { modelId: repo.id }), sha: repo.commit, private: repo.private === true, gated: false, disabled: false,
        tags: [], downloads: 0, likes: 0, lastModified: "2026-01-01T00:00:00.000Z", createdAt: "2026-01-01T00:00:00.000Z", siblings: Object.keys(repo.files).map((rfilename) => ({ rfilename })),
      });
    } else {
      const name = file![4];
      const bytes = repo.files[name];
      const commit = { "x-repo-commit": repo.commit };
      if (!Object.hasOwn(repo.files, name)) {
        response.writeHead(404, { ...commit, "x-error-code": "EntryNotFound", "x-error-message": "Entry not found" }).end();
      } else if (isLarge(name)) {
        const signature = randomBytes(8).toString("hex");
        signatures.add(signature);
        response.writeHead(302, {
          ...commit, location: `${cdnUrl}/${sha256Of(bytes)}?signature=${signature}`, "x-linked-etag": `"${sha256Of(bytes)}"`, "x-linked-size": bytes.length, "content-length": 0,
        }).end();
      } else {
        sendFile(request, response, log, bytes, { ...commit, etag: `"${gitOidOf(bytes)}"` });
      }
    }
  });
  const url = await listening(hub);
  return {
    url, requests,
    close: async () => {
      await Promise.all([hub, cdn].map((server) => new Promise((resolve) => { server.close(resolve).closeAllConnections(); })));
    },
  };
}

/** A file, or the range of it that was asked for; or what a fault makes of it. */
function sendFile(request: IncomingMessage, response: ServerResponse, log: LoggedRequest, bytes: Uint8Array, headers: Readonly<Record<string, string>>): void {
  const range = log.fault === "ignore-range" ? null : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = Number(range?.[1] ?? 0);
  const end = Math.min(range === null || range[2] === "" ? bytes.length : Number(range[2]) + 1, bytes.length);
  if (range !== null && start >= bytes.length) {
    response.writeHead(416, { "content-range": `bytes */${String(bytes.length)}` }).end();
    return;
  }
  const part = bytes.subarray(start, end);
  const said = { ...headers, "accept-ranges": "bytes", ...(range !== null && { "content-range": `bytes ${String(start)}-${String(end - 1)}/${String(bytes.length)}` }) };
  const status = range === null ? 200 : 206;
  const half = part.subarray(0, part.length >> 1);
  if (request.method === "HEAD") {
    response.writeHead(status, { ...said, "content-length": part.length }).end();
  } else if (log.fault === "cut") {
    log.sent = half.length;
    response.writeHead(status, { ...said, "content-length": part.length });
    response.write(half, () => request.socket.destroy());
  } else if (log.fault === "short" || log.fault === "long") {
    // Without a length, so that the end of the body is where the server ends it.
    const body = log.fault === "short" ? half : Buffer.concat([part, Buffer.from("and more")]);
    log.sent = body.length;
    response.writeHead(status, said).end(body);
  } else {
    log.sent = part.length;
    response.writeHead(status, { ...said, "content-length": part.length }).end(part);
  }
}

/** The Hub keeps such files in LFS. */
function isLarge(path: string): boolean {
  return /\.(?:safetensors|parquet|gz|bin)$/.test(path);
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Git's name for a file's content. */
function gitOidOf(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${String(bytes.length)}\0`).update(bytes).digest("hex");
}

function commitOf({ id, files }: LoopbackRepo): string {
  const all = Object.entries(files).map(([path, bytes]) => `${path} ${gitOidOf(bytes)}`).sort();
  return createHash("sha1").update([id, ...all].join("\n")).digest("hex");
}

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
}
