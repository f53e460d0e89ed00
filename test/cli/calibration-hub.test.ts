import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, expect, it } from "vitest";
import { filesOf } from "../../scripts/loopback-hub/files-of.js";
import { startLoopbackHub, type LoopbackRepo } from "../../scripts/loopback-hub/server.js";
import { fixture } from "../source/data-set-fixtures.js";
import { DEMO_MODEL, ONE_CORE, shardsmith } from "./cli.js";

const MODEL = filesOf(DEMO_MODEL);
/** A conversation through this template says who speaks. */
const CHAT = { ...MODEL, "chat_template.jinja": Buffer.from("{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}") };
const WORDS = "river stone lantern harbour copper window orchard winter thunder".split(" ");
const web = (file: number) => gzipSync(Array.from({ length: 200 }, (_, i) => JSON.stringify({ text: `Page ${String(i)} of ${String(file)}: ${Array.from({ length: 40 }, (_, j) => WORDS[(i * 7 + j * file) % 9]).join(" ")}` })).join("\n"));

const C4 = { "en/c4-train.00000-of-01024.json.gz": web(1), "en/c4-train.00001-of-01024.json.gz": web(2), "en/c4-validation.00000-of-00008.json.gz": web(3) };

const TINY: LoopbackRepo = { type: "model", id: "org/tiny", files: CHAT };
const root = mkdtempSync(join(tmpdir(), "calibration-hub-"));
const hub = await startLoopbackHub({
  repos: [
    TINY,
    { type: "dataset", id: "allenai/c4", files: C4 },
    { type: "dataset", id: "HuggingFaceH4/ultrachat_200k", files: { "data/train_sft-00000-of-00003.parquet": fixture("chats.parquet") } },
  ],
});
const withoutC4 = await startLoopbackHub({ repos: [TINY] });
afterAll(async () => {
  await Promise.all([hub.close(), withoutC4.close()]);
  rmSync(root, { recursive: true, force: true });
});
const environment = ({ url } = hub): string => `export HF_ENDPOINT=${url} HF_HOME='${join(root, "hf")}' HF_HUB_CACHE='${join(root, "cache")}' HF_TOKEN=`;
const commitOf = (id: string): string => hub.repo("dataset", id)!.at("main")!.oid;

/** It is the calibration that matters here: of the rest, as little as can be. */
const FEW = [...ONE_CORE, "--samples", "4", "--sequence-length", "64", "--quality", "fast", "--refine", "0", "--no-search", "--no-awq", "--keep", "*mlp*", "--keep", "*.o_proj"];
interface Told { readonly type: string; readonly why?: string; readonly message?: string; readonly origin: string; readonly parts: readonly object[]; readonly seed: number }
const run = async (source: string, output: string, more: readonly string[] = [], at = hub) => {
  const before = at.requests.length;
  const { code, stdout, stderr } = await shardsmith(["quantize", source, "-o", join(root, output), ...FEW, "--json", ...more], undefined, environment(at));
  const events = stdout.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Told);
  return { code, stderr, events, requests: at.requests.slice(before), calibration: events.find(({ type }) => type === "calibration"), warnings: events.filter(({ type }) => type === "warning").map(({ message }) => message) };
};
const report = (output: string) => JSON.parse(readFileSync(join(root, output, "shardsmith.json"), "utf8")) as { calibration: { parts: object[] }; run: Record<string, unknown> };

it("takes C4 for a model from the Hub, says so, and reads a little of two files", { timeout: 60_000 }, async () => {
  const { code, calibration, warnings, requests } = await run("org/tiny", "default");
  expect({ code, calibration, warnings }).toMatchObject({
    code: 0, warnings: [],
    calibration: {
      origin: "c4", seed: 0, parts: [{ origin: "c4", tokens: 256, dataSet: { repo: "allenai/c4", commit: commitOf("allenai/c4") } }],
      why: "the model comes from a Hub, where text of the kind that most models are calibrated on can be had as well; --calibration builtin takes the text that comes with Shardsmith",
    },
  });
  expect(report("default")).toMatchObject({ calibration: { parts: calibration!.parts }, run: { "data sets": `allenai/c4@${commitOf("allenai/c4")}` } });
  // A shuffled start in each of two files; what is held out is left alone.
  const read = requests.filter(({ port, url }) => port === "cdn" && url.includes("/allenai/c4/"));
  expect(read.reduce((sum, { sent }) => sum + sent, 0)).toBeLessThanOrEqual(C4["en/c4-train.00000-of-01024.json.gz"].length + C4["en/c4-train.00001-of-01024.json.gz"].length);
  expect(requests.some(({ url }) => url.includes("c4-validation"))).toBe(false);
});

it("writes conversations by the model's template, which lies beside it on the Hub, and mixes them with others", { timeout: 60_000 }, async () => {
  const { code, calibration, warnings } = await run("org/tiny", "chat", ["--calibration", "chat,builtin"]);
  expect({ code, calibration, warnings }).toMatchObject({ code: 0, warnings: [], calibration: { origin: "chat,builtin", parts: [{ origin: "chat", tokens: 128 }, { origin: "builtin", tokens: 128 }] } });
  const [{ conversations }] = calibration!.parts as { conversations: { all: number; templated: number } }[];
  expect(conversations.all).toBeGreaterThan(0);
  expect(conversations.templated).toBe(conversations.all);
  expect(calibration).not.toHaveProperty("why");
});

it("takes the built-in text where C4 is not to be had, with a warning", { timeout: 60_000 }, async () => {
  const { code, calibration, warnings } = await run("org/tiny", "away", [], withoutC4);
  expect({ code, calibration }).toMatchObject({ code: 0, calibration: { origin: "the built-in text", why: "c4 could not be read" } });
  expect(warnings).toEqual([expect.stringMatching(/^c4, which models from a Hub are calibrated on unless something else is chosen, could not be read: .*: there is no such data set.* Calibrating on the text that comes with Shardsmith$/)]);
});

it("goes on with the data set as it was, though it has moved on since", { timeout: 60_000 }, async () => {
  const set = hub.repo("dataset", "allenai/c4")!;
  const then = set.at("main")!;
  const args = ["quantize", DEMO_MODEL, "-o", join(root, "killed"), ...FEW, "--json", "--calibration", "c4"];
  const { code } = await shardsmith(args, (line, kill) => {
    if (line.includes('"type":"layer","layer":1')) kill("SIGKILL");
  }, environment());
  expect(code).toBe("SIGKILL");
  set.commit("refs/heads/main", then, new Map([...then.files, ["README.md", set.stored("README.md", Buffer.from("newer"))]]), "move on");
  const again = await run(DEMO_MODEL, "killed", ["--calibration", "c4"]);
  expect(again).toMatchObject({ code: 0, calibration: { parts: [{ dataSet: { commit: then.oid } }] } });
  expect(again.events.map(({ type }) => type)).toContain("resume");
  const commits = again.requests.flatMap(({ url }) => /\/resolve\/([0-9a-f]{40})\//.exec(url)?.[1] ?? []);
  expect(new Set(commits)).toEqual(new Set([then.oid]));
});

it("measures on what is held out of a set, a little of it", { timeout: 60_000 }, async () => {
  const before = hub.requests.length;
  const { code, stdout } = await shardsmith(["eval", DEMO_MODEL, "--text", "c4", "--max-tokens", "200", "--sequence-length", "64", "--json"], undefined, environment());
  expect(code).toBe(0);
  const events = stdout.trim().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(events.find(({ type }) => type === "text")).toMatchObject({ origin: `c4, commit ${commitOf("allenai/c4").slice(0, 8)}` });
  expect(events.at(-1)).toMatchObject({ type: "done", perplexity: expect.any(Number) as number });
  const files = hub.requests.slice(before).flatMap(({ url }) => /\/resolve\/[0-9a-f]{40}\/(.*)$/.exec(url)?.[1] ?? []);
  expect(new Set(files)).toEqual(new Set(["en/c4-validation.00000-of-00008.json.gz"]));
});

it("tells people how much of each", { timeout: 60_000 }, async () => {
  const { code, stderr } = await shardsmith(["quantize", DEMO_MODEL, "-o", join(root, "told"), ...FEW, "--calibration", "c4,chat"], undefined, environment());
  expect(code).toBe(0);
  expect(stderr).toMatch(/^Calibrating on c4,chat: 256 tokens in 4 sequences of 64\n {2}c4: 128 tokens of \d+ documents, from allenai\/c4, commit [0-9a-f]{40}\n {2}chat: 128 tokens of \d+ documents, from HuggingFaceH4\/ultrachat_200k, commit [0-9a-f]{40}\nWarning: chat: (\d+) of \1 conversations did not go through the model's chat template \(there is none\); their turns were joined by blank lines$/m);
});
