import { expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import type { HubRepo } from "#src/hub/hub.js";
import { listRepo, readRange, resolveRevision } from "#src/hub/repo-files.js";
import { cutBody, ENDPOINT, failure, inTurn, redirect, retryLine, scriptedHub, stalledBody, TOKEN } from "./scripted.js";
import type { Answer } from "./scripted.js";

const REPO: HubRepo = { type: "model", id: "org/name" };
const DATA: HubRepo = { type: "dataset", id: "org/set" };
const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const SHA = "ab".repeat(32);
const OPTIONS = { sleep: () => Promise.resolve() };
const FILE = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);

const messageOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "no error",
    (error: unknown) => (error instanceof InputError ? error.message : `not an InputError: ${String(error)}`),
  );

it("resolves a revision to its commit", async () => {
  const { hub, sent } = scriptedHub(() => Response.json({ id: "org/name", sha: COMMIT }));
  expect(await resolveRevision(hub, REPO)).toEqual({ commit: COMMIT });
  await resolveRevision(hub, DATA, "refs/pr/1");
  expect(sent.map(({ url }) => url)).toEqual([`${ENDPOINT}/api/models/org/name/revision/main`, `${ENDPOINT}/api/datasets/org/set/revision/refs%2Fpr%2F1`]);
});

it.each([
  [() => new Response("", { status: 404, headers: { "x-error-code": "RevisionNotFound" } }), 'https://hub.test/org/name: has no revision "dev"; https://hub.test/org/name/tree/main lists its branches and tags'],
  [() => Response.json({ sha: "main" }), "https://hub.test/api/models/org/name/revision/dev: the answer names no commit; is https://hub.test a Hub?"],
  [() => Response.json(null), "https://hub.test/api/models/org/name/revision/dev: the answer names no commit; is https://hub.test a Hub?"],
  [({ headers }) => new Response(`Who is ${headers.get("authorization")}?`), 'https://hub.test/api/models/org/name/revision/dev: the answer is not JSON, but "Who is Bearer …?"; is https://hub.test a Hub, or is there a proxy with a page of its own between?'],
  [() => new Response("<html>Please log in"), 'https://hub.test/api/models/org/name/revision/dev: the answer is not JSON, but "<html>Please log in"; is https://hub.test a Hub, or is there a proxy with a page of its own between?'],
] as [Answer, string][])("refuses what is no revision (%#)", async (answer, message) => {
  expect(await messageOf(resolveRevision(scriptedHub(answer).hub, REPO, "dev"))).toBe(message);
});

it("lists all pages of a commit, or one folder", async () => {
  const page = (next?: string) => (path: string, lfs?: object) =>
    Response.json([{ type: "directory", path: "sub", oid: "d", size: 0 }, { type: "file", path, size: 5, oid: "aa", ...lfs }], { headers: next === undefined ? {} : { link: `<${next}>; rel="next"` } });
  const next = `${ENDPOINT}/api/models/org/name/tree/${COMMIT}?cursor=x`;
  const { hub, sent } = scriptedHub(inTurn(() => page(next)("config.json"), () => page()("sub/model.safetensors", { lfs: { oid: SHA, size: 5, pointerSize: 130 } }), () => page()("en/a b.gz")));
  expect([...(await listRepo(hub, REPO, COMMIT))]).toEqual([["config.json", { size: 5, oid: "aa" }], ["sub/model.safetensors", { size: 5, oid: "aa", sha256: SHA }]]);
  expect([...(await listRepo(hub, DATA, COMMIT, { folder: "en/a b" })).keys()]).toEqual(["en/a b.gz"]);
  expect(sent.map(({ url }) => url)).toEqual([
    `${ENDPOINT}/api/models/org/name/tree/${COMMIT}?recursive=true&expand=false`,
    next,
    `${ENDPOINT}/api/datasets/org/set/tree/${COMMIT}/en/a%20b?recursive=true&expand=false`,
  ]);
});

it.each([
  [{ error: "x" }, "https://hub.test/api/models/org/name/tree: the answer is no list of files; is https://hub.test a Hub?"],
  [[{ type: "file", path: "a", size: -1, oid: "a" }], 'https://hub.test/api/models/org/name/tree: lists a file without a proper path, size or hash: {"type":"file","path":"a","size":-1,"oid":"a"}'],
  [[{ type: "file", path: "a", size: 1, oid: "a", lfs: { oid: "../x" } }], 'https://hub.test/api/models/org/name/tree: lists a file without a proper path, size or hash: {"type":"file","path":"a","size":1,"oid":"a","lfs":{"oid":"../x"}}'],
  [[7], "https://hub.test/api/models/org/name/tree: lists a file without a proper path, size or hash: 7"],
])("refuses what is no list (%#)", async (json, message) => {
  expect(await messageOf(listRepo(scriptedHub(() => Response.json(json)).hub, REPO, COMMIT))).toBe(message);
});

it("asks a mirror for the pages of which it passes on the public Hub's addresses", async () => {
  const next = `https://huggingface.co/api/models/org/name/tree/${COMMIT}?cursor=x`;
  const { hub, sent } = scriptedHub(inTurn(Response.json([], { headers: { link: `<${next}>; rel="next"` } }), Response.json([])));
  await listRepo(hub, REPO, COMMIT);
  expect([sent[1].url, sent[1].headers.get("authorization")]).toEqual([`${ENDPOINT}/api/models/org/name/tree/${COMMIT}?cursor=x`, `Bearer ${TOKEN}`]);
});

it("stops a list that never ends", async () => {
  const { hub } = scriptedHub(() => Response.json([], { headers: { link: `<${ENDPOINT}/api/again>; rel="next"` } }));
  expect(await messageOf(listRepo(hub, REPO, COMMIT))).toBe("https://hub.test/api/models/org/name/tree: has no end after 1000 pages");
});

/** The range asked for, as [start, end). */
const rangeOf = (headers: Headers): [number, number] => {
  const [, start, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.get("range")!)!;
  return [Number(start), Number(last) + 1];
};

/** 206 with the bytes asked for, or those given. */
const partial = (bytes?: BodyInit, headers: Record<string, string> = {}): Answer => (sent) => {
  const [start, end] = rangeOf(sent.headers);
  return new Response(bytes ?? FILE.slice(start, end), { status: 206, headers: { "content-range": `bytes ${start}-${end - 1}/${FILE.length}`, ...headers } });
};

const toCdn = (sig: string) => redirect(`https://cdn.test/blob?sig=${sig}`, 302, { "x-repo-commit": COMMIT, "x-linked-etag": `"${SHA}"` });
const read = (answer: Answer, start = 100, end = 300, options: object = {}) => {
  const { hub, sent } = scriptedHub(answer);
  return { sent, bytes: readRange(hub, REPO, COMMIT, "model a.safetensors", start, end, { ...OPTIONS, ...options }) };
};
const asked = (sent: { url: string; headers: Headers }[]) => sent.map(({ url, headers }) => `${new URL(url).host} ${headers.get("range")}`);

it("reads a range where the Hub redirects to, keeps the address, and sends the CDN no token", async () => {
  const { hub, sent } = scriptedHub(inTurn(toCdn("1"), partial(), partial()));
  const options = { sleep: () => Promise.reject(new Error("nothing to wait for")) };
  expect(await readRange(hub, REPO, COMMIT, "model a.safetensors", 100, 300, options)).toEqual(FILE.slice(100, 300));
  expect(await readRange(hub, REPO, COMMIT, "model a.safetensors", 300, 301, options)).toEqual(FILE.slice(300, 301));
  expect(sent.map(({ url, headers }) => [url, headers.get("range"), headers.get("authorization")])).toEqual([
    [`${ENDPOINT}/org/name/resolve/${COMMIT}/model%20a.safetensors`, "bytes=100-299", `Bearer ${TOKEN}`],
    ["https://cdn.test/blob?sig=1", "bytes=100-299", null],
    ["https://cdn.test/blob?sig=1", "bytes=300-300", null],
  ]);
});

it("asks the Hub again for an address that no longer holds", async () => {
  for (const status of [400, 401, 403, 404, 410]) {
    const { hub, sent } = scriptedHub(inTurn(toCdn("1"), partial(), new Response("", { status }), toCdn("2"), partial()));
    const options = { sleep: () => Promise.reject(new Error("nothing to wait for")) };
    await readRange(hub, REPO, COMMIT, "f", 0, 10, options);
    expect(await readRange(hub, REPO, COMMIT, "f", 10, 20, options)).toEqual(FILE.slice(10, 20));
    expect(sent.map(({ url }) => new URL(url).search)).toEqual(["", "?sig=1", "?sig=1", "", "?sig=2"]);
  }
});

it("reads what the Hub sends itself, and where a renamed repo lies now", async () => {
  const direct = read(partial(undefined, { etag: `"${"ab".repeat(20)}"`, "x-repo-commit": COMMIT }));
  expect(await direct.bytes).toEqual(FILE.slice(100, 300));
  const renamed = read(inTurn(redirect("/new/name/resolve/x", 307), partial()));
  expect(await renamed.bytes).toEqual(FILE.slice(100, 300));
  expect(renamed.sent[1].headers.get("authorization")).toBe(`Bearer ${TOKEN}`);
});

it("says what the Hub says of a file of a renamed repo", async () => {
  const { sent, bytes } = read(inTurn(redirect("/new/name/resolve/x", 307), new Response("", { status: 403, headers: { "x-error-code": "GatedRepo" } })));
  expect(await messageOf(bytes)).toMatch(/^https:\/\/hub\.test\/org\/name: this model is gated/);
  expect(sent).toHaveLength(2);
});

it("goes on where a body was cut, was short or stood still, and reads no byte twice", async () => {
  const { hub, sent } = scriptedHub(
    inTurn(
      toCdn("1"), partial(cutBody(FILE.slice(100, 150), FILE.slice(150, 160))), partial(FILE.slice(160, 200)), partial(cutBody(FILE.slice(200, 250))), partial(),
    ),
  );
  expect(await readRange(hub, REPO, COMMIT, "f", 100, 300, OPTIONS)).toEqual(FILE.slice(100, 300));
  expect(asked(sent)).toEqual([
    "hub.test bytes=100-299",
    ...[100, 160, 200, 250].map((start) => `cdn.test bytes=${start}-299`),
  ]);
});

it.each<[string, Answer | Response | Error]>([
  ["refuses connections", failure("ECONNREFUSED")],
  ["is not known any more", failure("ENOTFOUND")],
  ["is in trouble", new Response("", { status: 503 })],
  ["sends nothing", partial("")],
])("asks the Hub for another host where the CDN's %s", async (_, answer) => {
  const { hub, sent } = scriptedHub(inTurn(toCdn("1"), partial(), answer, redirect("https://other.test/blob?sig=2"), partial()));
  await readRange(hub, REPO, COMMIT, "f", 0, 10, OPTIONS);
  expect(await readRange(hub, REPO, COMMIT, "f", 10, 20, OPTIONS)).toEqual(FILE.slice(10, 20));
  expect(asked(sent).slice(2)).toEqual(["cdn.test", "hub.test", "other.test"].map((host) => `${host} bytes=10-19`));
});

it("gives up where every address that the Hub gives is refused, and at once where the Hub itself refuses the request", async () => {
  const { hub, sent } = scriptedHub(({ url }) => (url.startsWith(ENDPOINT) ? toCdn("1") : new Response("", { status: 400 })));
  expect(await messageOf(readRange(hub, REPO, COMMIT, "f", 0, 10, OPTIONS))).toBe(`GET ${ENDPOINT}/org/name/resolve/${COMMIT}/f: cdn.test answers with status 400; given up after 6 tries`);
  expect(sent).toHaveLength(12);
  const own = scriptedHub(() => new Response("", { status: 400 }));
  expect(await messageOf(readRange(own.hub, REPO, COMMIT, "f", 0, 10, OPTIONS))).toBe(`${ENDPOINT}/org/name/resolve/${COMMIT}/f: answers with status 400`);
  expect(own.sent).toHaveLength(1);
});

it("counts tries anew when bytes arrive, and gives up when none do", async () => {
  const trickle = read((sent) => {
    const [start] = rangeOf(sent.headers);
    return partial(cutBody(FILE.slice(start, start + 1)))(sent);
  }, 0, 20);
  expect(await trickle.bytes).toEqual(FILE.slice(0, 20));
  expect(trickle.sent).toHaveLength(20);
  const dry = read(partial(""), 5, 20);
  expect(await messageOf(dry.bytes)).toBe(`GET https://hub.test/org/name/resolve/${COMMIT}/model%20a.safetensors: the body ends at byte 5, short of 20; given up after 6 tries`);
  expect(dry.sent).toHaveLength(6);
});

it("gives up a body that stands still", async () => {
  const said: string[] = [];
  const { hub, sent } = scriptedHub(() => new Response());
  let requests = 0;
  const standing: typeof fetch = async (input, init) => {
    requests += 1;
    await hub.fetch(input, init);
    return requests === 1
      ? new Response(stalledBody(FILE.slice(0, 4))(init!.signal!), { status: 206, headers: { "content-range": "bytes 0-9/1000" } })
      : new Response(FILE.slice(4, 10), { status: 206, headers: { "content-range": "bytes 4-9/1000" } });
  };
  const bytes = await readRange({ ...hub, fetch: standing }, REPO, COMMIT, "f", 0, 10, { ...OPTIONS, stall: 200, onRetry: (retry) => said.push(retryLine(retry)) });
  expect(bytes).toEqual(FILE.slice(0, 10));
  expect(asked(sent)).toEqual(["hub.test bytes=0-9", "hub.test bytes=4-9"]);
  expect(said[0]).toMatch(/: nothing was heard for 0\.2 s; try 2 of 6/);
});

it("takes its bytes out of a whole file where Range is ignored, and lets go of the rest", async () => {
  let pulls = 0;
  let cancelled = false;
  const whole = new ReadableStream({
    pull(sink) {
      pulls += 1;
      sink.enqueue(FILE.slice());
    },
    cancel() {
      cancelled = true;
    },
  });
  const { hub } = scriptedHub(() => new Response(whole));
  const answering: typeof fetch = async (input, init) => {
    init!.signal!.addEventListener("abort", () => void whole.cancel().catch(() => (cancelled = true)));
    return await hub.fetch(input, init);
  };
  expect(await readRange({ ...hub, fetch: answering }, REPO, COMMIT, "f", 950, 1050, OPTIONS)).toEqual(new Uint8Array([...FILE.slice(950), ...FILE.slice(0, 50)]));
  expect([cancelled, pulls < 5]).toEqual([true, true]);
});

it("tries again where too much would be wasted because Range is ignored", async () => {
  const far = read(() => new Response("x"), 5_000_000, 5_000_010);
  expect(await messageOf(far.bytes)).toMatch(/: sends the whole file where bytes 5000000 to 5000010 were asked for: it ignores Range; given up after 6 tries$/);
  const once = read(inTurn(new Response("x"), new Response("0123456789", { status: 206, headers: { "content-range": "bytes 5000000-5000009/6000000" } })), 5_000_000, 5_000_010);
  expect(new TextDecoder().decode(await once.bytes)).toBe("0123456789");
});

it("believes nothing of a body that is too long", async () => {
  const long = read(inTurn(partial(FILE.slice(0, 300)), partial(FILE.slice(0, 300), { "content-length": "300" }), partial()));
  expect(await long.bytes).toEqual(FILE.slice(100, 300));
  expect(asked(long.sent)).toEqual(Array(3).fill("hub.test bytes=100-299"));
  // Neither does it go on for ever.
  const always = read((sent) => partial(new ReadableStream({ start: (sink) => { sink.enqueue(FILE.slice(0, 200)); sink.enqueue(FILE.slice(0, 9)); sink.close(); } }))(sent));
  expect(await messageOf(always.bytes)).toMatch(/: sends more than the 200 bytes that were asked for; given up after 6 tries$/);
  expect(always.sent).toHaveLength(6);
});

const WHERE = `https://hub.test/org/name/resolve/${COMMIT}/model%20a.safetensors`;
it.each([
  [partial(undefined, { "content-range": "bytes 0-199/1000" }), `${WHERE}: answers with Content-Range "bytes 0-199/1000", where bytes 100 to 299 were asked for`],
  [() => new Response("x", { status: 206 }), `${WHERE}: answers with Content-Range "", where bytes 100 to 299 were asked for`],
  [inTurn(partial(cutBody(FILE.slice(100, 150))), partial(undefined, { "content-range": "bytes 150-299/999" })), `${WHERE}: has 999 bytes, where 1000 were expected; the file changed while it was read, run the same command again`],
  [partial(undefined, { "x-repo-commit": "f".repeat(40) }), `${WHERE}: is of commit "${"f".repeat(40)}"; the file changed while it was read, run the same command again`],
  [inTurn(partial(cutBody(FILE.slice(100, 150)), { etag: `"${"a".repeat(40)}"` }), partial(undefined, { etag: `W/"${"b".repeat(40)}"` })), `${WHERE}: has the hash "${"b".repeat(40)}", where "${"a".repeat(40)}" was expected; the file changed while it was read, run the same command again`],
  [() => new Response("", { status: 416 }), `${WHERE}: ends before byte 300`],
  [() => new Response("0123456789", { headers: { "content-length": "10" } }), `${WHERE}: ends before byte 300; it has 10 bytes`],
  [() => new Response("", { status: 404, headers: { "x-error-code": "EntryNotFound" } }), 'https://hub.test/org/name: has no file "model a.safetensors"; https://hub.test/org/name/tree/main lists its files'],
  [() => Response.json({ error: "not for you" }, { status: 403 }), 'https://hub.test/org/name: the token may not do this ("not for you"); give it the right at https://hub.test/settings/tokens'],
  [inTurn(toCdn("1"), ...Array.from({ length: 11 }, (_, i) => (i % 2 === 0 ? new Response("", { status: 403 }) : toCdn("2")))), `GET ${WHERE}: cdn.test answers with status 403; given up after 6 tries`],
  [() => new Response("", { status: 400, headers: { "x-request-id": "r1" } }), `${WHERE}: answers with status 400 (request id r1)`],
] as [Answer, string][])("refuses by name (%#)", async (answer, message) => {
  expect(await messageOf(read(answer).bytes)).toBe(message);
});

it("passes over ETags that are no hashes", async () => {
  expect(await read(inTurn(partial(cutBody(FILE.slice(100, 150)), { etag: '"v1"' }), partial(undefined, { etag: '"v2"' }))).bytes).toEqual(FILE.slice(100, 300));
});

it("ends with the signal's reason", async () => {
  const stop = new AbortController();
  const answer: Answer = (sent) => {
    stop.abort(new Error("stopped"));
    return partial(cutBody())(sent);
  };
  await expect(read(answer, 0, 10, { signal: stop.signal }).bytes).rejects.toThrow("stopped");
});
