// A Hub on loopback: repos in memory, read and written as on the real one, their large files on a second port, the CDN. It fails as it is
// told to. Python's huggingface_hub and its command line work against it (scripts/readers/hub.py).
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { accountOf, belongsTo, gateOf, missing, writing, type Account } from "./accounts.js";
import { json, refuse, send, throttleTo, type Answer, type Call, type Fault } from "./answers.js";
import { Cdn } from "./cdn.js";
import { cachedFile, history, info, pathsInfo, refs, resolve, tree } from "./read-routes.js";
import { Repo, type Commit, type RepoType } from "./repos.js";
import { commit, completeMultipart, createBranch, lfsBatch, lfsVerify, preupload } from "./write-routes.js";

export { FAULTS, WRITE_FAULTS, type Fault } from "./answers.js";
export type { Repo } from "./repos.js";

export interface LoopbackRepo {
  readonly type: RepoType;
  readonly id: string;
  readonly files: Readonly<Record<string, Uint8Array>>;
  /** Seen only with a token of its namespace. */
  readonly private?: boolean;
  /** Its files are read only by those who accepted its conditions. */
  readonly gated?: "auto" | "manual";
  /** The name that it had before it was renamed, which leads to it. */
  readonly formerly?: string;
}

export interface LoggedRequest {
  readonly port: "hub" | "cdn";
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly authorization: string | undefined;
  readonly fault: Fault | undefined;
  /** 0 where there was no answer. */
  status: number;
  /** Bytes of the answer's body that were sent, as far as the server knows, if it is a file. */
  sent: number;
  /** Bytes of the request's body. */
  received: number;
}

export interface LoopbackOptions {
  readonly repos?: readonly LoopbackRepo[];
  /** A token that sees and writes everything. */
  readonly token?: string;
  /** Other tokens. */
  readonly accounts?: Readonly<Record<string, Account>>;
  /** What becomes of a request; `count` is how many came before it. */
  readonly fault?: (request: { readonly count: number; readonly port: "hub" | "cdn"; readonly method: string; readonly url: string }) => Fault | undefined;
  /** Large files above this many bytes go up in parts of this size. Default 16 MiB. */
  readonly partSize?: number;
  /** Entries a page of a tree. Default 1000. */
  readonly pageSize?: number;
  /** What goes out in a second, over all connections. Default: no limit. */
  readonly bytesPerSecond?: number;
  /** Default: any that is free. */
  readonly port?: number;
}

export interface LoopbackHub {
  /** What HF_ENDPOINT is to be. */
  readonly url: string;
  readonly requests: readonly LoggedRequest[];
  addRepo(repo: LoopbackRepo): void;
  /** A repo by its name, made by whomever: its files are `at("main").files`. */
  repo(type: RepoType, id: string): Repo | undefined;
  /** No address on the CDN that was given out up to now serves any longer. */
  expireAddresses(): void;
  close(): Promise<void>;
}

export async function startLoopbackHub({ repos = [], token, accounts = {}, fault = () => undefined, partSize = 16 * 1024 * 1024, pageSize = 1000, bytesPerSecond, port = 0 }: LoopbackOptions = {}): Promise<LoopbackHub> {
  const known = new Map(Object.entries(accounts));
  if (token !== undefined) known.set(token, { name: "loopback", orgs: ["*"] });
  const stored = new Map<string, Repo>();
  /** Former names → repos. */
  const renamed = new Map<string, Repo>();
  const cdn = new Cdn();
  const requests: LoggedRequest[] = [];
  const throttle = bytesPerSecond === undefined ? undefined : throttleTo(bytesPerSecond);
  let url = "";

  const listen = async (name: "hub" | "cdn", at: number, answerTo: (call: Call, fault: Fault | undefined) => Answer): Promise<Server> => {
    const server = createServer((request, response) => {
      const { method = "GET", url: target = "/", headers } = request;
      const log: LoggedRequest = {
        port: name, method, url: target, authorization: headers.authorization, fault: fault({ count: requests.length, port: name, method, url: target }), status: 0, sent: 0, received: 0,
      };
      requests.push(log);
      if (log.fault === "stall") return;
      if (log.fault === "reset") {
        request.socket.destroy();
        return;
      }
      void (async () => {
        const body = await received(request, log);
        const answer = body && (outOfOrder(log.fault, headers) ?? answerTo({ method, url: new URL(target, "http://loopback"), headers, body }, log.fault));
        if (answer === undefined || log.fault === "lost") {
          request.socket.destroy();
          return;
        }
        log.status = answer.status;
        const sent = await send(request, response, { ...answer, headers: { "x-request-id": `Root=1-loopback-${requests.length}`, ...(name === "hub" && RATE_LIMIT), ...answer.headers } }, log.fault, throttle);
        if (answer.file === true) log.sent = sent;
      })().catch((error: unknown) => {
        // What a client sends that is not as it should be; or it went away.
        if (!response.headersSent) response.writeHead((log.status = 400)).end(String(error));
      });
    });
    await new Promise<void>((resolve) => server.listen(at, "127.0.0.1", resolve));
    return server;
  };

  const addRepo = ({ type, id, files, private: isPrivate = false, gated, formerly }: LoopbackRepo): void => {
    const repo = new Repo(type, id, isPrivate, gated);
    repo.commit("refs/heads/main", undefined, new Map(Object.entries(files).map(([path, bytes]) => [path, repo.stored(path, bytes)])), "initial commit");
    stored.set(`${type}s/${id}`, repo);
    if (formerly !== undefined) renamed.set(`${type}s/${formerly}`, repo);
  };
  for (const repo of repos) addRepo(repo);

  const ofHub = (call: Call): Answer => {
    const account = accountOf(call, known);
    if (account !== undefined && "status" in account) return account;
    const path = call.url.pathname;
    if (path === "/api/whoami-v2") return whoami(account);
    if (path === "/api/complete_multipart") return completeMultipart(call, cdn);
    if (path === "/api/validate-yaml") return json({ errors: [], warnings: [] });
    if (path === "/api/repos/create") return create(call, account);
    const found = routeOf(path);
    if (!found) return refuse(404, "Sorry, we can't find the page you are looking for.");
    const now = renamed.get(`${found.type}s/${found.id}`);
    if (now) return { status: 307, headers: { location: path.replace(found.id, now.id) + call.url.search } };
    const repo = stored.get(`${found.type}s/${found.id}`);
    if (!repo || (repo.isPrivate && !belongsTo(account, repo.id))) return missing(account);
    return inRepo(repo, found, call, account);
  };

  const create = (call: Call, account: Account | undefined): Answer => {
    if (!account) return refuse(401, "Invalid username or password.");
    const { type = "model", name, organization, visibility, private: isPrivate } = JSON.parse(Buffer.from(call.body).toString()) as { type?: RepoType; name: string; organization?: string; visibility?: string; private?: boolean };
    const id = `${organization ?? account.name}/${name}`;
    if (account.write === false || !belongsTo(account, id)) return refuse(403, `You don't have the rights to create a ${type} under the namespace "${organization ?? account.name}"`);
    const page = `${url}/${type === "dataset" ? "datasets/" : ""}${id}`;
    if (stored.has(`${type}s/${id}`)) return json({ error: `You already created this ${type} repo: ${id}`, url: page, id }, 409, { "x-error-message": `You already created this ${type} repo` });
    addRepo({ type, id, private: isPrivate ?? visibility === "private", files: { ".gitattributes": Buffer.from("*.safetensors filter=lfs diff=lfs merge=lfs -text\n") } });
    return json({ url: page, name: id, id });
  };

  const inRepo = (repo: Repo, { verb, rest }: Route, call: Call, account: Account | undefined): Answer => {
    if (verb === "refs") return refs(repo, call);
    if (verb === "lfs") return writing(repo, account) ?? (rest === "verify" ? lfsVerify(repo, call) : lfsBatch(repo, call, cdn, url, partSize));
    if (verb === "branch") return writing(repo, account) ?? createBranch(repo, decodeURIComponent(rest), call);
    const { revision, path } = splitRevision(rest);
    const at = repo.at(revision);
    if (!at) return refuse(404, `Invalid rev id: ${revision}`, "RevisionNotFound");
    return ofCommit(repo, at, verb, revision, path, call, account);
  };

  const ofCommit = (repo: Repo, at: Commit, verb: string, revision: string, path: string, call: Call, account: Account | undefined): Answer => {
    switch (verb) {
      case "": case "revision": return info(repo, at, call);
      case "tree": return tree(at, path, call, url, pageSize);
      case "paths-info": return pathsInfo(at, call);
      case "commits": return history(repo, at);
      case "resolve": return gateOf(repo, account) ?? resolve(repo, at, path, (sha256) => cdn.address(repo, "GET", sha256));
      case "resolve-cache": return gateOf(repo, account) ?? cachedFile(at, path);
      case "preupload": return writing(repo, account) ?? preupload(at, call);
      case "commit": return writing(repo, account) ?? commit(repo, revision, call, url);
      default: return refuse(404, "Sorry, we can't find the page you are looking for.");
    }
  };

  const servers = [
    await listen("hub", port, ofHub),
    await listen("cdn", 0, (call, fails) => cdn.answer(call, fails)),
    await listen("cdn", 0, (call, fails) => cdn.answer(call, fails === "elsewhere" ? undefined : fails)),
  ];
  [url, cdn.url, cdn.other] = servers.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  return {
    url, requests, addRepo,
    repo: (type, id) => stored.get(`${type}s/${id}`),
    expireAddresses: () => cdn.expireAll(),
    close: async () => {
      await Promise.all(servers.map((server) => new Promise((closed) => { server.close(closed).closeAllConnections(); })));
    },
  };
}

/** The body of a request; undefined where the fault is that it is cut. */
async function received(request: IncomingMessage, log: LoggedRequest): Promise<Uint8Array | undefined> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) {
    log.received += chunk.length;
    if (log.fault === "cut") {
      request.socket.destroy();
      return undefined;
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The Hub says with every answer what is left: https://huggingface.co/docs/hub/rate-limits. */
const RATE_LIMIT = { ratelimit: '"api";r=499;t=228', "ratelimit-policy": '"fixed window";"api";q=500;w=300' };

function outOfOrder(fault: Fault | undefined, headers: IncomingMessage["headers"]): Answer | undefined {
  switch (fault) {
    case "429": return { status: 429, headers: { "retry-after": "0", ratelimit: '"api";r=0;t=0' } };
    case "500": case "503": return { status: Number(fault), body: "out of order" };
    case "refused": return refuse(401, "Invalid credentials in Authorization header");
    case "echo": return refuse(400, `Not with ${JSON.stringify(headers)}`, undefined, { "x-request-id": headers.authorization?.replace(/^Bearer /, "") ?? "none" });
    case "locked": return refuse(409, "Another commit operation is in progress for this repository. Please try again later.");
    default: return undefined;
  }
}

function whoami(account: Account | undefined): Answer {
  if (!account) return refuse(401, "Invalid username or password.");
  const { name, orgs = [], write = true } = account;
  return json({
    type: "user", id: "loopback", name, fullname: name, email: `${name}@loopback.test`, isPro: false,
    orgs: orgs.map((org) => ({ type: "org", id: org, name: org, fullname: org, roleInOrg: write ? "write" : "read" })),
    auth: { type: "access_token", accessToken: { displayName: "loopback", role: write ? "write" : "read" } },
  });
}

interface Route {
  readonly type: RepoType;
  readonly id: string;
  /** What is wanted of the repo; empty for the repo itself. */
  readonly verb: string;
  readonly rest: string;
}

/** A path, still encoded, taken apart. A repo's name has a namespace or, for the oldest, none. */
function routeOf(path: string): Route | undefined {
  const api = /^\/api\/(model|dataset)s\/((?:[^/]+\/)?[^/]+)(?:\/(revision|tree|paths-info|commits|refs|preupload|commit|branch)(?:\/(.*))?)?$/.exec(path);
  if (api) return { type: api[1] as RepoType, id: decodeURIComponent(api[2]), verb: api[3] ?? "", rest: api[4] ?? "" };
  const cached = /^\/api\/resolve-cache\/(model|dataset)s\/((?:[^/]+\/)?[^/]+)\/([0-9a-f]{40}\/.+)$/.exec(path);
  if (cached) return { type: cached[1] as RepoType, id: decodeURIComponent(cached[2]), verb: "resolve-cache", rest: cached[3] };
  const file = /^\/(datasets\/)?((?:[^/]+\/)?[^/]+)(?:\/(resolve)\/(.+)|\.git\/info\/(lfs)\/objects\/(.*))$/.exec(path);
  return file ? { type: file[1] === undefined ? "model" : "dataset", id: decodeURIComponent(file[2]), verb: file[3] ?? file[5], rest: file[4] ?? file[6] } : undefined;
}

/** `main/a/b` → the revision and the path; `refs/pr/1` may stand as it is, other slashes of a revision are encoded. */
function splitRevision(rest: string): { revision: string; path: string } {
  const parts = /^(refs\/pr\/\d+|[^/]*)(?:\/(.*))?$/.exec(rest);
  return { revision: decodeURIComponent(parts?.[1] ?? "") || "main", path: decodeURIComponent(parts?.[2] ?? "") };
}
