import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import type { HubRepo } from "#src/hub/hub.js";
import { openCheckpoint } from "#src/source/checkpoint.js";
import { hubCacheOfEnvironment } from "#src/source/hub-cache.js";
import { openHub } from "#src/source/hub.js";
import { ENDPOINT, scriptedHub } from "../hub/scripted.js";
import type { Answer } from "../hub/scripted.js";

const REPO: HubRepo = { type: "model", id: "org/name" };
const COMMIT = "0123456789abcdef0123456789abcdef01234567";

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const oidOf = (bytes: Uint8Array): string => createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
const text = (content: string): Uint8Array => new TextEncoder().encode(content);
const large = Uint8Array.from({ length: 50 * 1024 * 1024 }, (_, i) => (i * 7) & 255);

/** A repo of files; those that end in safetensors are LFS files. */
function repoOf(files: Record<string, Uint8Array>, answerFirst?: Answer): Answer {
  return async (sent) => {
    const early = await answerFirst?.(sent);
    if (early && early.status !== 299) return early;
    const { pathname } = new URL(sent.url);
    if (pathname.startsWith("/api/models/org/name/revision/")) return Response.json({ id: "org/name", sha: COMMIT });
    if (pathname === `/api/models/org/name/tree/${COMMIT}`) {
      return Response.json(Object.entries(files).map(([path, bytes]) => ({ type: "file", path, size: bytes.length, oid: oidOf(bytes), ...(path.endsWith(".safetensors") && { lfs: { oid: sha256(bytes), size: bytes.length } }) })));
    }
    const bytes = files[pathname.slice(`/org/name/resolve/${COMMIT}/`.length)];
    const [, start, last] = /^bytes=(\d+)-(\d+)$/.exec(sent.headers.get("range")!)!.map(Number);
    return new Response(bytes.slice(start, last + 1), {
      status: 206,
      headers: { "content-range": `bytes ${start}-${last}/${bytes.length}`, etag: `"${pathname.endsWith(".safetensors") ? sha256(bytes) : oidOf(bytes)}"`, "x-repo-commit": COMMIT },
    });
  };
}

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "shardsmith-cache-"));
});
afterEach(() => rmSync(home, { recursive: true }));

/** Puts files into the cache as Python's library does. */
function fill(files: Record<string, Uint8Array>, revision = "main"): void {
  const folder = join(home, "hub/models--org--name");
  const put = (path: string, bytes: Uint8Array | string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), bytes);
  };
  put(`refs/${revision}`, COMMIT);
  for (const [path, bytes] of Object.entries(files)) {
    const blob = path.endsWith(".safetensors") ? sha256(bytes) : oidOf(bytes);
    put(`blobs/${blob}`, bytes);
    mkdirSync(join(folder, "snapshots", COMMIT), { recursive: true });
    symlinkSync(`../../blobs/${blob}`, join(folder, "snapshots", COMMIT, path));
  }
}

const messageOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "no error",
    (error: unknown) => (error instanceof InputError ? error.message : `not an InputError: ${String(error)}`),
  );

it("is one commit of a repo, with its files at the top level and in the folder onnx, and their hashes", async () => {
  const files = { "model.safetensors": text("weights"), "config.json": text("{}"), "onnx/model.onnx": text("x") };
  const { hub, sent } = scriptedHub(repoOf(files));
  const source = await openHub(hub, REPO, "refs/pr/1");
  expect([source.label, source.commit, source.hub.repo, source.hub.commit]).toEqual(["org/name@01234567", COMMIT, "org/name", COMMIT]);
  expect([...(await source.list())]).toEqual([["config.json", 2], ["model.safetensors", 7], ["onnx/model.onnx", 1]]);
  expect(await source.fingerprint("model.safetensors")).toBe(`sha256 ${sha256(files["model.safetensors"])}`);
  expect(await source.fingerprint("config.json")).toBe(`git ${oidOf(files["config.json"])}`);
  expect(new TextDecoder().decode(await source.read("model.safetensors", 2, 6))).toBe("ight");
  expect(source.hub.bytesRead()).toBe(4);
  expect(sent.map(({ url }) => url)).toEqual([`${ENDPOINT}/api/models/org/name/revision/refs%2Fpr%2F1`, `${ENDPOINT}/api/models/org/name/tree/${COMMIT}?recursive=true&expand=false`, `${ENDPOINT}/org/name/resolve/${COMMIT}/model.safetensors`]);
  expect(await messageOf(source.read("nothing", 0, 1))).toBe('org/name@01234567: has no file "nothing"');
  expect(await messageOf(source.fingerprint("nothing"))).toBe('org/name@01234567: has no file "nothing"');
  expect(await messageOf(source.read("config.json", 0, 3))).toBe("org/name@01234567/config.json: ends at byte 2, but bytes 0 to 3 were wanted");
  await source.close();
});

it("makes a large read of pieces, four at a time, and reads each byte once", async () => {
  let [open, most] = [0, 0];
  const { hub, sent } = scriptedHub(async (request) => {
    open += 1;
    most = Math.max(most, open);
    await new Promise((resolve) => setTimeout(resolve, 1));
    open -= 1;
    return await repoOf({ "model.safetensors": large })(request);
  });
  const source = await openHub(hub, REPO);
  const parts = await Promise.all([source.read("model.safetensors", 3, large.length), source.read("model.safetensors", 0, 3)]);
  expect(sha256(Buffer.concat([parts[1], parts[0]]))).toBe(sha256(large));
  const mib = 1024 * 1024;
  expect(sent.slice(2).map(({ headers }) => headers.get("range")).sort()).toEqual([
    "bytes=0-2", `bytes=${16 * mib + 3}-${32 * mib + 2}`, `bytes=${32 * mib + 3}-${48 * mib + 2}`, `bytes=${48 * mib + 3}-${50 * mib - 1}`, `bytes=3-${16 * mib + 2}`,
  ].sort());
  expect([most, source.hub.bytesRead()]).toEqual([4, large.length]);
});

it("ends the other pieces of a read when one of them fails for good", async () => {
  const files = { "model.safetensors": large };
  const { hub } = scriptedHub(repoOf(files, (sent) => new Response("", { status: sent.headers.get("range")?.startsWith("bytes=0-") === true ? 400 : 299 })));
  const source = await openHub(hub, REPO);
  expect(await messageOf(source.read("model.safetensors", 0, large.length))).toBe(`https://hub.test/org/name/resolve/${COMMIT}/model.safetensors: answers with status 400`);
});

it("notices a file that is not the one listed", async () => {
  const changed = repoOf({ "model.safetensors": text("weighty") });
  const { hub } = scriptedHub(repoOf({ "model.safetensors": text("weights") }, (sent) => (sent.url.includes("/resolve/") ? changed(sent) : new Response("", { status: 299 }))));
  const source = await openHub(hub, REPO);
  expect(await messageOf(source.read("model.safetensors", 0, 3))).toBe(
    `https://hub.test/org/name/resolve/${COMMIT}/model.safetensors: has the hash "${sha256(text("weighty"))}", where "${sha256(text("weights"))}" was expected; the file changed while it was read, run the same command again`,
  );
});

it("ends every read with the signal it was opened with", async () => {
  const stop = new AbortController();
  const { hub } = scriptedHub(repoOf({ "model.safetensors": large }, (sent) => {
    if (sent.url.includes("/resolve/")) stop.abort(new Error("stopped"));
    return new Response("", { status: 299 });
  }));
  const source = await openHub(hub, REPO, "main", { signal: stop.signal });
  await expect(source.read("model.safetensors", 0, 8)).rejects.toThrow("stopped");
  await expect(source.read("model.safetensors", 0, large.length)).rejects.toThrow("stopped");
  await expect(openHub(hub, REPO, "main", { signal: stop.signal })).rejects.toThrow("stopped");
});

it("says of a repo without safetensors what to do", async () => {
  const { hub } = scriptedHub(repoOf({ "config.json": text("{}"), "pytorch_model.bin": text("x") }));
  expect(await messageOf(openCheckpoint(await openHub(hub, REPO)))).toBe(
    "org/name@01234567: has no safetensors weights, only pytorch_model.bin; convert it to safetensors first (transformers' save_pretrained does)",
  );
});

it("reads from the cache what it holds whole of this commit, and the rest from the Hub", async () => {
  const files = { "config.json": text("{}"), "model-1.safetensors": text("one"), "model-2.safetensors": text("two") };
  fill({ "config.json": files["config.json"], "model-1.safetensors": files["model-1.safetensors"], "model-2.safetensors": text("tw") });
  const { hub, sent } = scriptedHub(repoOf(files));
  const source = await openHub(hub, REPO, "main", { cache: hubCacheOfEnvironment({ HF_HOME: home }) });
  const read = async (path: keyof typeof files) => new TextDecoder().decode(await source.read(path, 0, files[path].length));
  expect([await read("config.json"), await read("model-1.safetensors"), await read("model-2.safetensors")]).toEqual(["{}", "one", "two"]);
  expect(sent.slice(2).map(({ url }) => url)).toEqual([`${ENDPOINT}/org/name/resolve/${COMMIT}/model-2.safetensors`]);
  expect(source.hub.bytesRead()).toBe(3);
  await source.close();
});

it("does without the Hub when it is told to be offline, with the same fingerprints", async () => {
  const files = { "config.json": text("{}"), "model.safetensors": text("weights") };
  fill(files);
  writeFileSync(join(home, "hub/models--org--name/snapshots", COMMIT, "plain"), "x");
  const { hub, sent } = scriptedHub(repoOf(files));
  const online = await openHub(hub, REPO);
  sent.length = 0;
  for (const [env, revision] of [[{ HF_HOME: home, HF_HUB_OFFLINE: "1" }, "main"], [{ HF_HUB_CACHE: join(home, "hub"), TRANSFORMERS_OFFLINE: "true" }, COMMIT]] as const) {
    const source = await openHub(hub, REPO, revision, { cache: hubCacheOfEnvironment(env) });
    expect([source.label, source.commit, source.hub.commit, source.hub.bytesRead()]).toEqual([`org/name@01234567 (offline, in ${join(home, "hub")})`, COMMIT, COMMIT, 0]);
    expect([...(await source.list())]).toEqual([["config.json", 2], ["model.safetensors", 7], ["plain", 1]]);
    expect(new TextDecoder().decode(await source.read("model.safetensors", 0, 7))).toBe("weights");
    for (const path of Object.keys(files)) expect(await source.fingerprint(path)).toBe(await online.fingerprint(path));
    expect(await source.fingerprint("plain")).toMatch(/^1 bytes, modified \d+$/);
    await source.close();
  }
  expect(sent).toEqual([]);
});

it("says what is missing when it is offline", async () => {
  const { hub, sent } = scriptedHub(repoOf({}));
  const cache = hubCacheOfEnvironment({ HF_HUB_CACHE: home, HF_HUB_OFFLINE: "ON" });
  expect(await messageOf(openHub(hub, REPO, "dev", { cache }))).toBe(
    `https://hub.test/org/name: HF_HUB_OFFLINE is set, and the cache at ${home} does not hold revision "dev"; fetch it once with \`hf download org/name\`, or unset HF_HUB_OFFLINE`,
  );
  expect(sent).toEqual([]);
});
