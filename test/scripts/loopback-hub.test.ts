import { createHash, randomBytes } from "node:crypto";
import { commit, createBranch, createRepo, downloadFile, listFiles, modelInfo, whoAmI, type CommitOperation } from "@huggingface/hub";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openHub } from "#src/source/hub.js";
import { startLoopbackHub, WRITE_FAULTS, type Fault, type LoopbackHub } from "../../scripts/loopback-hub/server.js";

const WRITER = "hf_writer";
const READER = "hf_reader";
const text = (words: string): Blob => new Blob([words]);
const WEIGHTS = randomBytes(5000);
const sha256 = createHash("sha256").update(WEIGHTS).digest("hex");

let hub: LoopbackHub;
let nextFault: Fault | undefined;
beforeAll(async () => {
  hub = await startLoopbackHub({
    accounts: { [WRITER]: { name: "ann", orgs: ["org"] }, [READER]: { name: "bob", write: false } },
    repos: [
      { type: "model", id: "org/open", files: { "config.json": Buffer.from("{}"), "model.safetensors": WEIGHTS, "a/b/c.txt": Buffer.from("c"), "a/d.txt": Buffer.from("d") } },
      { type: "model", id: "org/hidden", files: {}, private: true },
      { type: "dataset", id: "other/gated", files: { "x.txt": Buffer.from("x"), "y.parquet": WEIGHTS }, gated: "manual" },
      { type: "model", id: "org/renamed", formerly: "org/before", files: { "config.json": Buffer.from("{}"), "model.safetensors": WEIGHTS } },
      { type: "model", id: "gpt2", files: { "config.json": Buffer.from("{}") } },
    ],
    partSize: 2048, pageSize: 2,
    fault: () => {
      const fault = nextFault;
      nextFault = undefined;
      return fault;
    },
  });
});
afterAll(() => hub.close());

const as = (token?: string): RequestInit => (token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } });
const get = (path: string, init: RequestInit = {}): Promise<Response> => fetch(`${hub.url}${path}`, init);
const post = (path: string, token: string | undefined, body: unknown): Promise<Response> => get(path, { method: "POST", ...as(token), body: typeof body === "string" ? body : JSON.stringify(body) });
const told = (response: Response): (string | number | null)[] => [response.status, response.headers.get("x-error-code"), response.headers.get("x-error-message")];
const filesOf = (id: string, revision = "main"): Record<string, string> =>
  Object.fromEntries([...hub.repo("model", id)!.at(revision)!.files].map(([path, { bytes }]) => [path, Buffer.from(bytes).toString("latin1")]));

describe("@huggingface/hub against the loopback Hub", () => {
  const client = () => ({ hubUrl: hub.url, accessToken: WRITER });

  it("reads info, a tree of several pages, and files of both ports", async () => {
    expect((await modelInfo({ ...client(), name: "org/open", additionalFields: ["sha"] })).sha).toMatch(/^[0-9a-f]{40}$/);
    const paths: string[] = [];
    for await (const { path } of listFiles({ ...client(), repo: "org/open", recursive: true })) paths.push(path);
    expect(paths).toEqual(["a", "a/b", "a/b/c.txt", "a/d.txt", "config.json", "model.safetensors"]);
    const weights = await downloadFile({ ...client(), repo: "org/open", path: "model.safetensors" });
    expect(Buffer.from(await weights!.slice(10, 4000).arrayBuffer()).equals(WEIGHTS.subarray(10, 4000))).toBe(true);
    expect(await (await downloadFile({ ...client(), repo: "gpt2", path: "config.json" }))!.text()).toBe("{}");
    expect(await whoAmI(client())).toMatchObject({ name: "ann", orgs: [{ name: "org" }] });
  });

  it("leads from the name that a repo had, as does ours", async () => {
    expect((await modelInfo({ ...client(), name: "org/before" })).name).toBe("org/renamed");
    const weights = await downloadFile({ ...client(), repo: "org/before", path: "model.safetensors" });
    expect(Buffer.from(await weights!.slice(10, 20).arrayBuffer())).toEqual(WEIGHTS.subarray(10, 20));
    const source = await openHub({ endpoint: hub.url, fetch }, { type: "model", id: "org/before" });
    expect(Buffer.from(await source.read("model.safetensors", 10, 20))).toEqual(WEIGHTS.subarray(10, 20));
    expect(Buffer.from(await source.read("config.json", 0, 2)).toString()).toBe("{}");
    await source.close();
  });

  it("makes a repo and writes to it, in parts, on branches, as pull requests", async () => {
    await createRepo({ ...client(), repo: "org/new", visibility: "private" });
    expect(hub.repo("model", "org/new")!.isPrivate).toBe(true);
    const put = (operations: CommitOperation[], more: { branch?: string; isPullRequest?: boolean } = {}) => commit({ ...client(), repo: "org/new", title: "put", operations, useXet: false, ...more });
    await put([{ operation: "addOrUpdate", path: "model.safetensors", content: new Blob([WEIGHTS]) }, { operation: "addOrUpdate", path: "config.json", content: text("{}") }]);
    const parts = hub.requests.filter(({ port, method }) => port === "cdn" && method === "PUT");
    expect(parts.map(({ received }) => received).sort()).toEqual([2048, 2048, 904].sort());
    const main = filesOf("org/new");
    expect(main).toEqual({ ".gitattributes": main[".gitattributes"], "config.json": "{}", "model.safetensors": WEIGHTS.toString("latin1") });

    await createBranch({ ...client(), repo: "org/new", branch: "other" });
    await put([{ operation: "delete", path: "config.json" }], { branch: "other" });
    const pull = await put([{ operation: "addOrUpdate", path: "note.txt", content: text("hello") }], { isPullRequest: true });
    expect(pull!.pullRequestUrl).toBe(`${hub.url}/org/new/discussions/1`);
    expect(Object.keys(filesOf("org/new", "other"))).toEqual([".gitattributes", "model.safetensors"]);
    expect(filesOf("org/new", "refs/pr/1")["note.txt"]).toBe("hello");
    expect(filesOf("org/new")).toEqual(main);

    // What is there already is not sent again.
    const before = hub.requests.length;
    await put([{ operation: "addOrUpdate", path: "again.safetensors", content: new Blob([WEIGHTS]) }]);
    expect(hub.requests.slice(before).filter(({ port }) => port === "cdn")).toEqual([]);
    expect(filesOf("org/new")["again.safetensors"]).toBe(main["model.safetensors"]);
  });
});

describe("what the loopback Hub refuses", () => {
  it("tells nobody of what is private, and without a token not what is missing", async () => {
    const unseen = [401, "RepoNotFound", "Invalid username or password."];
    expect(told(await get("/api/models/org/hidden"))).toEqual(unseen);
    expect(told(await get("/api/models/org/none"))).toEqual(unseen);
    expect(told(await get("/api/models/org/hidden", as(READER)))).toEqual([404, "RepoNotFound", "Repository not found"]);
    expect((await get("/api/models/org/hidden", as(WRITER))).status).toBe(200);
    expect(told(await get("/api/models/org/open", as("hf_wrong")))).toEqual([401, null, "Invalid credentials in Authorization header"]);
  });

  it("names revisions and files that are not there", async () => {
    expect(told(await get("/api/models/org/open/revision/none"))).toEqual([404, "RevisionNotFound", "Invalid rev id: none"]);
    const missing = await get("/org/open/resolve/main/none.json");
    expect(told(missing)).toEqual([404, "EntryNotFound", "Entry not found"]);
    expect(missing.headers.get("x-repo-commit")).toMatch(/^[0-9a-f]{40}$/);
  });

  it("shows what a gated repo holds, and gives its files to none who did not accept", async () => {
    expect((await get("/api/datasets/other/gated")).status).toBe(200);
    expect(told(await get("/datasets/other/gated/resolve/main/x.txt")).slice(0, 2)).toEqual([401, "GatedRepo"]);
    expect(told(await get("/datasets/other/gated/resolve/main/y.parquet", as(READER))).slice(0, 2)).toEqual([403, "GatedRepo"]);
  });

  it("wants addresses of the CDN as they were signed, without a token, and until they expire", async () => {
    const { headers } = await get("/org/open/resolve/main/model.safetensors", { redirect: "manual" });
    const address = headers.get("location")!;
    expect(headers.get("x-linked-etag")).toBe(`"${sha256}"`);
    expect((await fetch(address)).status).toBe(200);
    expect((await fetch(address, as(WRITER))).status).toBe(400);
    expect((await fetch(address, { method: "PUT", body: "x" })).status).toBe(403);
    hub.expireAddresses();
    expect((await fetch(address)).status).toBe(403);
  });

  it("lets nobody write where they may not", async () => {
    expect(told(await post("/api/repos/create", READER, { name: "x" })).slice(2)).toEqual(["You don't have the rights to create a model under the namespace \"bob\""]);
    expect((await post("/api/repos/create", WRITER, { name: "x", organization: "other" })).status).toBe(403);
    expect((await post("/api/repos/create", WRITER, { name: "open", organization: "org" })).status).toBe(409);
    expect((await post("/api/models/org/open/commit/main", READER, "{}")).status).toBe(403);
    expect((await post("/org/open.git/info/lfs/objects/batch", undefined, {})).status).toBe(401);
  });

  it("takes no LFS object that is not what it is said to be", async () => {
    const batch = await post("/org/open.git/info/lfs/objects/batch", WRITER, { operation: "upload", transfers: ["basic"], objects: [{ oid: "0".repeat(64), size: 3 }] });
    const { objects } = (await batch.json()) as { objects: [{ actions: { upload: { href: string } } }] };
    const { href } = objects[0].actions.upload;
    expect(await (await fetch(href, { method: "PUT", body: "abc" })).text()).toContain("BadDigest");
    const stream = new Blob(["abc"]).stream();
    expect((await fetch(href, { method: "PUT", body: stream, duplex: "half" } as RequestInit)).status).toBe(411);
  });

  it("makes a commit whole or not at all", async () => {
    const before = hub.repo("model", "org/open")!.at("main")!.oid;
    const lines = (...changes: object[]): string => [{ key: "header", value: { summary: "s" } }, ...changes].map((line) => JSON.stringify(line)).join("\n");
    const file = { key: "file", value: { path: "n.txt", content: "bg==", encoding: "base64" } };
    const bad = [
      { key: "lfsFile", value: { path: "m.safetensors", algo: "sha256", oid: "1".repeat(64), size: 1 } },
      { key: "file", value: { path: "m.safetensors", content: "bg==", encoding: "base64" } },
      { key: "deletedFile", value: { path: "none" } },
      { key: "file", value: { path: "../up", content: "" } },
    ];
    for (const change of bad) expect((await post("/api/models/org/open/commit/main", WRITER, lines(file, change))).status).toBe(400);
    const stale = `${JSON.stringify({ key: "header", value: { summary: "s", parentCommit: before } })}\n${JSON.stringify(file)}`;
    expect(hub.repo("model", "org/open")!.at("main")!.oid).toBe(before);
    expect((await post("/api/models/org/open/commit/main", WRITER, stale)).status).toBe(200);
    expect((await post("/api/models/org/open/commit/main", WRITER, stale)).status).toBe(412);
  });
});

/** What a PUT comes to, 0 where there is no answer; and whether what was sent is there afterwards. */
const OF_FAULT: Record<(typeof WRITE_FAULTS)[number], [status: number, kept: boolean]> = {
  429: [429, false], 500: [500, false], 503: [503, false], reset: [0, false], cut: [0, false], lost: [0, true], expired: [403, false],
};

it.each(WRITE_FAULTS)("has an upload go wrong as told: %s", async (fault) => {
  const body = randomBytes(100);
  const oid = createHash("sha256").update(body).digest("hex");
  const batch = async () => {
    const answer = await post("/org/open.git/info/lfs/objects/batch", WRITER, { operation: "upload", objects: [{ oid, size: body.length }] });
    return ((await answer.json()) as { objects: [{ actions?: { upload: { href: string } } }] }).objects[0].actions?.upload.href;
  };
  const href = (await batch())!;
  nextFault = fault;
  const status = await fetch(href, { method: "PUT", body }).then((response) => response.status, () => 0);
  expect([status, (await batch()) === undefined]).toEqual(OF_FAULT[fault]);
  // An address that has expired does not come to life again.
  expect((await fetch(href, { method: "PUT", body })).status).toBe(fault === "expired" ? 403 : 200);
});
