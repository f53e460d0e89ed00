import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { whoAmI } from "@huggingface/hub";
import { InputError } from "#src/errors.js";
import type { Retry } from "#src/hub/attempts.js";
import { steadyFetch } from "#src/hub/steady-fetch.js";
import { VERSION } from "#src/version.js";
import { cutBody, ENDPOINT, failure, inTurn, redirect, retryLine, scriptedHub, TOKEN } from "./scripted.js";

const URL_ = `${ENDPOINT}/api/models/a/b?sig=secret`;

/** Options that wait for nothing and remember what was said and how long would have been waited. */
function patient() {
  const said: string[] = [];
  const waited: number[] = [];
  return { said, waited, onRetry: (retry: Retry) => said.push(retryLine(retry)), sleep: (ms: number) => (waited.push(ms), Promise.resolve()) };
}

const messageOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "no error",
    (error: unknown) => (error instanceof InputError ? error.message : `not an InputError: ${String(error)}`),
  );

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

it("answers as fetch does, with the token for the endpoint", async () => {
  const { hub, sent } = scriptedHub(inTurn(new Response("{}", { status: 404, headers: { "x-error-code": "RepoNotFound" } })));
  const response = await steadyFetch(hub)(URL_, { method: "POST", body: "x", headers: { accept: "text/plain" } });
  expect([response.status, response.url, response.headers.get("x-error-code"), await response.text()]).toEqual([404, URL_, "RepoNotFound", "{}"]);
  expect(sent[0]).toMatchObject({ method: "POST", body: "x" });
  expect([sent[0].headers.get("authorization"), sent[0].headers.get("accept")]).toEqual([`Bearer ${TOKEN}`, "text/plain"]);
});

it("tries again after what may pass, and says so without the query", async () => {
  const { said, waited, ...options } = patient();
  const { hub, sent } = scriptedHub(
    inTurn(
      new Response("", { status: 503, headers: { "x-request-id": "Root=1-ab" } }),
      new Response("", { status: 429, headers: { "retry-after": "7" } }),
      failure("ECONNREFUSED"),
      new Response(cutBody(new Uint8Array(3))),
      () => new Response("done"),
    ),
  );
  expect(await (await steadyFetch(hub, options)(URL_, { method: "PUT", body: new Blob(["all of it"]) })).text()).toBe("done");
  expect(sent.map(({ body }) => body)).toEqual(Array(5).fill("all of it"));
  expect(said.map((line) => line.replace(/[\d.]+ s$/, "… s"))).toEqual([
    "PUT https://hub.test/api/models/a/b: status 503 (request id Root=1-ab); try 2 of 6 in … s",
    "PUT https://hub.test/api/models/a/b: status 429; try 3 of 6 in … s",
    "PUT https://hub.test/api/models/a/b: the connection was refused; try 4 of 6 in … s",
    "PUT https://hub.test/api/models/a/b: the connection was cut; try 5 of 6 in … s",
  ]);
  expect(waited[1]).toBe(7000);
  expect(waited[0]).toBeLessThanOrEqual(500);
  expect(waited[3]).toBeLessThanOrEqual(4000);
});

it("reads how long it is to wait from a date and from RateLimit", async () => {
  const { waited, ...options } = patient();
  const date = new Date(Date.now() + 60_000).toUTCString();
  const { hub } = scriptedHub(
    inTurn(
      new Response("", { status: 503, headers: { "retry-after": date } }),
      new Response("", { status: 429, headers: { ratelimit: '"api";r=0;t=55' } }),
      new Response("", { status: 429, headers: { "retry-after": "0" } }),
      new Response("", { status: 429, headers: { "retry-after": "soon" } }),
      new Response("done"),
    ),
  );
  expect((await steadyFetch(hub, options)(URL_)).status).toBe(200);
  expect(waited[0]).toBeGreaterThan(50_000);
  // Its seconds are whole ones, rounded down.
  expect(waited[1]).toBe(56_000);
  expect(Math.max(waited[2], waited[3])).toBeLessThanOrEqual(4000);
});

it.each([
  [() => new Response("", { status: 500, headers: { "x-request-id": "r1" } }), "GET https://hub.test/api/models/a/b: status 500 (request id r1); given up after 6 tries", 6],
  [() => Promise.reject(failure("ENOTFOUND")), "GET https://hub.test/api/models/a/b: the host is not known; is there a network?; given up after 6 tries", 6],
  [() => Promise.reject(failure("CERT_HAS_EXPIRED")), "GET https://hub.test/api/models/a/b: the connection failed (CERT_HAS_EXPIRED); given up after 6 tries", 6],
  [() => Promise.reject(new TypeError(`invalid ${TOKEN}`)), "GET https://hub.test/api/models/a/b: the connection failed; given up after 6 tries", 6],
  [() => new Response("", { status: 429, headers: { "retry-after": "7200" } }), "GET https://hub.test/api/models/a/b: status 429; it asks to wait 120 minutes, run the same command again then", 1],
  [() => redirect("https://hub.test/again"), "https://hub.test/again: more than 5 redirects", 6],
  [() => redirect("ftp://hub.test/x"), "https://hub.test/api/models/a/b: redirects to something that is no web address", 1],
])("gives up by name (%#)", async (answer, message, requests) => {
  const { hub, sent } = scriptedHub(answer);
  expect(await messageOf(steadyFetch(hub, patient())(URL_))).toBe(message);
  expect(sent).toHaveLength(requests);
});

it("waits where the Hub is busy with another operation, and for no other conflict", async () => {
  const { said, ...options } = patient();
  const busy = () => Response.json({ error: "Another commit operation is in progress for this repository. Please try again later." }, { status: 409 });
  const { hub, sent } = scriptedHub(inTurn(busy(), busy(), new Response("done"), Response.json({ error: "You already created this model repo" }, { status: 409 })));
  expect(await (await steadyFetch(hub, options)(URL_, { method: "POST", body: "x" })).text()).toBe("done");
  expect(said[1]).toMatch(/^POST https:\/\/hub\.test\/api\/models\/a\/b: another operation is in progress there; try 3 of 6 in /);
  const other = await steadyFetch(hub, options)(URL_, { method: "POST", body: "x" });
  expect([other.status, await other.json()]).toEqual([409, { error: "You already created this model repo" }]);
  expect(sent).toHaveLength(4);
});

it("says who asks", async () => {
  const { hub, sent } = scriptedHub(() => new Response(""));
  await steadyFetch(hub)(URL_);
  expect(sent[0].headers.get("user-agent")).toBe(`shardsmith/${VERSION}`);
});

it("tells no request id that a token may stand in", async () => {
  const { hub } = scriptedHub(() => new Response("", { status: 500, headers: { "x-request-id": TOKEN } }));
  expect(await messageOf(steadyFetch(hub, patient())(URL_))).toBe("GET https://hub.test/api/models/a/b: status 500; given up after 6 tries");
});

it("sends a stream once", async () => {
  const { hub, sent } = scriptedHub(() => new Response("", { status: 500 }));
  expect(await messageOf(steadyFetch(hub, patient())(URL_, { method: "PUT", body: new Blob(["x"]).stream() }))).toBe("PUT https://hub.test/api/models/a/b: status 500; given up after one try");
  expect(sent).toHaveLength(1);
});

it("sends the token to no other host, also where the caller set it", async () => {
  const { hub, sent } = scriptedHub(inTurn(redirect("https://cdn.test/x?sig=1", 307), redirect("https://hub.test/back", 302), new Response("done")));
  await steadyFetch(hub, patient())(URL_, { method: "PUT", body: "x", headers: { authorization: `Bearer ${TOKEN}` } });
  expect(sent.map(({ url, method, headers }) => [url, method, headers.get("authorization")])).toEqual([
    [URL_, "PUT", `Bearer ${TOKEN}`],
    ["https://cdn.test/x?sig=1", "PUT", null],
    ["https://hub.test/back", "PUT", `Bearer ${TOKEN}`],
  ]);
  const elsewhere = scriptedHub(() => new Response(""));
  await steadyFetch(elsewhere.hub)("https://hub.test.evil/x", { headers: { authorization: `Bearer ${TOKEN}` } });
  await steadyFetch(elsewhere.hub)("http://hub.test/x");
  expect(elsewhere.sent.map(({ headers }) => headers.get("authorization"))).toEqual([null, null]);
});

it("turns a POST that is sent elsewhere into a GET, as browsers do, but not for 307", async () => {
  const { hub, sent } = scriptedHub(inTurn(redirect("/see", 307), redirect("/other", 303), new Response("done")));
  await steadyFetch(hub)(URL_, { method: "POST", body: "x" });
  expect(sent.map(({ url, method, body }) => [new URL(url).pathname, method, body])).toEqual([["/api/models/a/b", "POST", "x"], ["/see", "POST", "x"], ["/other", "GET", ""]]);
});

it("hands a redirect to who wants to see it", async () => {
  const { hub } = scriptedHub(inTurn(redirect("https://cdn.test/x")));
  const response = await steadyFetch(hub)(URL_, { redirect: "manual" });
  expect([response.status, response.headers.get("location")]).toEqual([302, "https://cdn.test/x"]);
});

it("reads no answer without end", async () => {
  const { hub } = scriptedHub(() => new Response(new ReadableStream({ pull: (sink) => sink.enqueue(new Uint8Array(1024 * 1024)) })));
  expect(await messageOf(steadyFetch(hub)(URL_))).toBe("https://hub.test/api/models/a/b: answers with more than 67108864 bytes, where a short answer was expected");
});

it("does not tell a token that cannot be one", async () => {
  const { hub } = scriptedHub(() => new Response(""), "hf_secret\u00e9");
  expect(await messageOf(steadyFetch(hub)(URL_))).toBe("the Hub token holds characters that no token has; see HF_TOKEN, or log in again with `hf auth login`");
});

it("ends its waiting at once when it is aborted", async () => {
  const stop = new AbortController();
  const { hub } = scriptedHub(() => new Response("", { status: 503, headers: { "retry-after": "300" } }));
  const waiting = steadyFetch(hub, { signal: stop.signal, onRetry: () => stop.abort(new Error("stopped")) })(URL_);
  await expect(waiting).rejects.toThrow("stopped");
  await expect(steadyFetch(hub)(URL_, { signal: AbortSignal.abort(new Error("before")) })).rejects.toThrow("before");
});

it("ends a request under way when it is aborted", async () => {
  const stop = new AbortController();
  const endpoint = await serve(() => stop.abort(new Error("stopped")));
  await expect(steadyFetch({ endpoint, fetch }, { signal: stop.signal })(`${endpoint}/x`)).rejects.toThrow("stopped");
});

it("takes silence for a failed try, before the headers and in a body", async () => {
  let requests = 0;
  const endpoint = await serve((_, response) => {
    requests += 1;
    if (requests === 2) response.write("half");
    if (requests === 3) response.end("whole");
  });
  const { said, ...options } = patient();
  const response = await steadyFetch({ endpoint, fetch }, { ...options, stall: 500 })(`${endpoint}/x`);
  expect(await response.text()).toBe("whole");
  expect(said.map((line) => line.split(": ")[1].split(";")[0])).toEqual(["nothing was heard for 0.5 s", "nothing was heard for 0.5 s"]);
});

it("sends a Blob with its length, in a request that the server may refuse halfway", async () => {
  const seen: (string | undefined)[] = [];
  const endpoint = await serve((request, response) => {
    seen.push(request.headers["content-length"]);
    if (seen.length === 1) return request.socket.destroy();
    let size = 0;
    request.on("data", (chunk: Buffer) => (size += chunk.length)).on("end", () => response.end(String(size)));
  });
  const { said, ...options } = patient();
  const response = await steadyFetch({ endpoint, fetch }, options)(`${endpoint}/x`, { method: "PUT", body: new Blob([new Uint8Array(3_000_000)]) });
  expect([await response.text(), seen]).toEqual(["3000000", ["3000000", "3000000"]]);
  expect(said.map((line) => line.split(": ")[1].split(";")[0])).toEqual(["the connection was cut"]);
});

it("tells a server that is not there", async () => {
  const endpoint = await serve(() => undefined);
  servers[0].close();
  expect(await messageOf(steadyFetch({ endpoint, fetch }, patient())(`${endpoint}/x`))).toBe(`GET ${endpoint}/x: the connection was refused; given up after 6 tries`);
});

it("serves @huggingface/hub as its fetch", async () => {
  const { hub } = scriptedHub(inTurn(new Response("", { status: 502 }), Response.json({ type: "user", name: "me", id: "1", auth: {} })));
  expect(await whoAmI({ accessToken: TOKEN, hubUrl: ENDPOINT, fetch: steadyFetch(hub, patient()) })).toMatchObject({ name: "me" });
});
