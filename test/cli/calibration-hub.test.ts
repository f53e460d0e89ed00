import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, it } from "vitest";
import { filesOf } from "../../scripts/loopback-hub/files-of.js";
import { fixture } from "../source/data-set-fixtures.js";
import { DEMO_MODEL, shardsmith } from "./cli.js";

const MODEL = filesOf(DEMO_MODEL);
/** A conversation through this template says who speaks. */
const CHAT = { ...MODEL, "chat_template.jinja": Buffer.from("{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}") };
const WORDS = "river stone lantern harbour copper window orchard winter thunder".split(" ");
const web = (file: number) => gzipSync(Array.from({ length: 200 }, (_, i) => JSON.stringify({ text: `Page ${String(i)} of ${String(file)}: ${Array.from({ length: 40 }, (_, j) => WORDS[(i * 7 + j * file) % 9]).join(" ")}` })).join("\n"));

/** What the Hub has, by kind and name; each repo with a commit, which a test may move on. */
const repos: Record<string, { commit: string; files: Record<string, Uint8Array> }> = {
  "models/org/tiny": { commit: "a".repeat(40), files: CHAT },
  "datasets/allenai/c4": { commit: "b".repeat(40), files: { "en/c4-train.00000-of-01024.json.gz": web(1), "en/c4-train.00001-of-01024.json.gz": web(2) } },
  "datasets/HuggingFaceH4/ultrachat_200k": { commit: "c".repeat(40), files: { "data/train_sft-00000-of-00003.parquet": fixture("chats.parquet") } },
};
/** Bytes that were sent of each file. */
const sent = new Map<string, number>();
const commitsRead = new Set<string>();
let away = new Set<string>();

const server = createServer((request, response) => {
  const path = decodeURIComponent(new URL(request.url!, "http://hub").pathname);
  const api = /^\/api\/((?:models|datasets)\/[^/]+\/[^/]+)\/(revision|tree)\/([^/]+)(?:\/(.*))?$/.exec(path);
  const file = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.*)$/.exec(path);
  const name = api?.[1] ?? (file ? `${file[1] ?? "models/"}${file[2]}` : "");
  const repo = away.has(name) ? undefined : repos[name];
  if (repo === undefined) {
    response.writeHead(404, { "x-error-code": "RepoNotFound" }).end();
  } else if (api?.[2] === "revision") {
    response.end(JSON.stringify({ sha: api[3] === "main" ? repo.commit : api[3] }));
  } else if (api) {
    const folder = api[4] === undefined ? "" : `${api[4]}/`;
    response.end(JSON.stringify(Object.entries(repo.files).filter(([key]) => key.startsWith(folder)).map(([key, bytes]) => ({ type: "file", path: key, size: bytes.length, oid: "d".repeat(40) }))));
  } else {
    const bytes = repo.files[file![4]];
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "")?.map(Number) ?? [0, 0, bytes.length - 1];
    const stop = Math.min(end + 1, bytes.length);
    commitsRead.add(`${name}@${file![3]}`);
    sent.set(file![4], (sent.get(file![4]) ?? 0) + stop - start);
    response.writeHead(request.headers.range === undefined ? 200 : 206, {
      "x-repo-commit": file![3], etag: `"${"d".repeat(40)}"`, "content-length": stop - start,
      ...(request.headers.range !== undefined && { "content-range": `bytes ${String(start)}-${String(stop - 1)}/${String(bytes.length)}` }),
    });
    response.end(request.method === "HEAD" ? undefined : bytes.subarray(start, stop));
  }
});

const root = mkdtempSync(join(tmpdir(), "calibration-hub-"));
const before = { HF_ENDPOINT: process.env.HF_ENDPOINT, HF_HOME: process.env.HF_HOME, HF_HUB_CACHE: process.env.HF_HUB_CACHE };
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  Object.assign(process.env, { HF_ENDPOINT: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`, HF_HOME: join(root, "hf"), HF_HUB_CACHE: join(root, "cache") });
});
afterAll(() => {
  for (const [name, value] of Object.entries(before)) {
    if (value === undefined) Reflect.deleteProperty(process.env, name);
    else process.env[name] = value;
  }
  server.close().closeAllConnections();
  rmSync(root, { recursive: true, force: true });
});

/** It is the calibration that matters here: of the rest, as little as can be. */
const FEW = ["--samples", "4", "--sequence-length", "64", "--quality", "fast", "--refine", "0", "--no-search", "--no-awq", "--keep", "*mlp*", "--keep", "*.o_proj"];
interface Told { readonly type: string; readonly why?: string; readonly message?: string; readonly origin: string; readonly parts: readonly object[]; readonly seed: number }
const run = async (source: string, output: string, ...more: string[]) => {
  sent.clear();
  commitsRead.clear();
  const { code, stdout, stderr } = await shardsmith(["quantize", source, "-o", join(root, output), ...FEW, "--json", ...more]);
  const events = stdout.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Told);
  return { code, stderr, events, calibration: events.find(({ type }) => type === "calibration"), warnings: events.filter(({ type }) => type === "warning").map(({ message }) => message) };
};
const report = (output: string) => JSON.parse(readFileSync(join(root, output, "shardsmith.json"), "utf8")) as { calibration: { parts: object[] }; run: Record<string, unknown> };

it("takes C4 for a model from the Hub, says so, and reads a little of two files", { timeout: 60_000 }, async () => {
  const { code, calibration, warnings } = await run("org/tiny", "default");
  expect({ code, calibration, warnings }).toMatchObject({
    code: 0, warnings: [],
    calibration: {
      origin: "c4", seed: 0, parts: [{ origin: "c4", tokens: 256, dataSet: { repo: "allenai/c4", commit: "b".repeat(40) } }],
      why: "the model comes from a Hub, where text of the kind that most models are calibrated on can be had as well; --calibration builtin takes the text that comes with Shardsmith",
    },
  });
  expect(report("default")).toMatchObject({ calibration: { parts: calibration!.parts }, run: { "data sets": `allenai/c4@${"b".repeat(40)}` } });
  for (const [file, bytes] of sent) if (file.endsWith(".gz")) expect(bytes).toBeLessThanOrEqual(repos["datasets/allenai/c4"].files[file].length);
});

it("writes conversations by the model's template, which lies beside it on the Hub, and mixes them with others", { timeout: 60_000 }, async () => {
  const { code, calibration, warnings } = await run("org/tiny", "chat", "--calibration", "chat,builtin");
  expect({ code, calibration, warnings }).toMatchObject({ code: 0, warnings: [], calibration: { origin: "chat,builtin", parts: [{ origin: "chat", tokens: 128 }, { origin: "builtin", tokens: 128 }] } });
  const [{ conversations }] = calibration!.parts as { conversations: { all: number; templated: number } }[];
  expect(conversations.all).toBeGreaterThan(0);
  expect(conversations.templated).toBe(conversations.all);
  expect(calibration).not.toHaveProperty("why");
});

it("takes the built-in text where C4 is not to be had, with a warning", { timeout: 60_000 }, async () => {
  away = new Set(["datasets/allenai/c4"]);
  const { code, calibration, warnings } = await run("org/tiny", "away");
  away = new Set();
  expect({ code, calibration }).toMatchObject({ code: 0, calibration: { origin: "the built-in text", why: "c4 could not be read" } });
  expect(warnings).toEqual([expect.stringMatching(/^c4, which models from a Hub are calibrated on unless something else is chosen, could not be read: .*: there is no such data set.* Calibrating on the text that comes with Shardsmith$/)]);
});

it("goes on with the data set as it was, though it has moved on since", { timeout: 60_000 }, async () => {
  const set = repos["datasets/allenai/c4"];
  const args = ["quantize", DEMO_MODEL, "-o", join(root, "killed"), ...FEW, "--json", "--calibration", "c4"];
  const { code } = await shardsmith(args, (line, kill) => {
    if (line.includes('"type":"layer","layer":1')) kill("SIGKILL");
  });
  expect(code).toBe("SIGKILL");
  set.commit = "e".repeat(40);
  const again = await run(DEMO_MODEL, "killed", "--calibration", "c4");
  expect(again).toMatchObject({ code: 0, calibration: { parts: [{ dataSet: { commit: "b".repeat(40) } }] } });
  expect(again.events.map(({ type }) => type)).toContain("resume");
  expect([...commitsRead]).toEqual([`datasets/allenai/c4@${"b".repeat(40)}`]);
  set.commit = "b".repeat(40);
});

it("tells people how much of each", { timeout: 60_000 }, async () => {
  const { code, stderr } = await shardsmith(["quantize", DEMO_MODEL, "-o", join(root, "told"), ...FEW, "--calibration", "c4,chat"]);
  expect(code).toBe(0);
  expect(stderr).toMatch(/^Calibrating on c4,chat: 256 tokens in 4 sequences of 64\n {2}c4: 128 tokens of \d+ documents, from allenai\/c4, commit b{40}\n {2}chat: 128 tokens of \d+ documents, from HuggingFaceH4\/ultrachat_200k, commit c{40}\nWarning: chat: (\d+) of \1 conversations did not go through the model's chat template \(there is none\); their turns were joined by blank lines$/m);
});
