import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { filesIn, hashOf, onlyShards, ROUNDED, runAt, shardsIn } from "../publish/command.js";
import { contents, puts, startHub } from "../publish/hub.js";
import { DEMO_MODEL, ONE_CORE, shardsmith, type Ran } from "./cli.js";

const root = mkdtempSync(join(tmpdir(), "push-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

let hub: Awaited<ReturnType<typeof startHub>>;
beforeEach(async () => { hub = await startHub({ partSize: 50_000 }); });
afterEach(() => hub.close());

const run = (args: readonly string[], onLine?: Parameters<typeof runAt>[2], token?: string): Promise<Ran> => runAt(hub, args, onLine, token);

/** A finished checkpoint. */
const whole = join(root, "whole");
beforeAll(async () => {
  expect(await shardsmith(["quantize", DEMO_MODEL, "-o", whole, ...ROUNDED])).toMatchObject({ code: 0 });
  expect(shardsIn(whole)).toHaveLength(4);
});
it("publishes a folder byte for byte but for the card, which names the repo; a second time it sends nothing", async () => {
  const { code, stdout, stderr } = await run(["push", whole, "org/new"]);
  expect({ code, stdout }).toEqual({ code: 0, stdout: `Published: ${hub.url}/org/new\n` });
  expect(stderr).toContain("model-00001-of-00004.safetensors is on the Hub (");
  const { "README.md": card, ...rest } = contents(hub);
  const { "README.md": local, ...expected } = filesIn(whole);
  expect(rest).toEqual(expected);
  expect(Buffer.from(card, "base64").toString()).toContain('from_pretrained("org/new"');
  expect(Buffer.from(local, "base64").toString()).not.toContain("org/new");
  const before = puts(hub).length;
  expect(await run(["push", whole, "org/new"])).toMatchObject({ code: 0, stdout: `Nothing to publish, all of it is there already: ${hub.url}/org/new\n` });
  expect(puts(hub)).toHaveLength(before);
});

it("goes on after being killed in the middle, and sends no finished shard again", async () => {
  const killed = await run(["push", whole, "org/new", "--json"], (line, kill) => { if (line.includes('"type":"uploaded","file":"model-00002')) kill("SIGKILL"); });
  expect(killed.code).toBe("SIGKILL");
  expect(contents(hub)).toEqual({});
  const sent = puts(hub).length;
  expect(await run(["push", whole, "org/new"])).toMatchObject({ code: 0 });
  expect(onlyShards(contents(hub))).toEqual(onlyShards(filesIn(whole)));
  const hashes = ["model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors"].map((name) => hashOf(join(whole, name)));
  expect(puts(hub).slice(sent).filter(({ url }) => hashes.some((hash) => url.includes(hash)))).toEqual([]);
});

it("ends at once when interrupted, with the line dead", async () => {
  hub.faults.push({ at: /^PUT /, kind: "stall" });
  let interrupted = 0;
  const { code, stderr } = await new Promise<Ran>((resolve, reject) => {
    let kill: (signal: NodeJS.Signals) => void = () => undefined;
    const watch = setInterval(() => {
      if (hub.faults.length > 0) return;
      clearInterval(watch);
      interrupted = performance.now();
      kill("SIGINT");
    }, 5);
    run(["push", whole, "org/new", "--json"], (_, end) => { kill = end; }).then(resolve, reject);
  });
  // A dead line is given 30 s; measured, it ends in some hundredths of one.
  expect(performance.now() - interrupted).toBeLessThan(10_000);
  expect({ code, stderr }).toEqual({ code: 1, stderr: "Interrupted. What is finished is kept: the same command goes on from there\n" });
});

it("opens a pull request, and commits to a branch, of a private repo", async () => {
  expect(await run(["push", whole, "org/new", "--private", "--create-pr"])).toMatchObject({ code: 0, stdout: `Opened a pull request: ${hub.url}/org/new/discussions/1\n` });
  expect(await run(["push", whole, "org/new", "--private", "--revision", "v1"])).toMatchObject({ code: 0, stdout: `Published: ${hub.url}/org/new/tree/v1\n` });
  expect(hub.repo("model", "org/new")!.isPrivate).toBe(true);
  expect(contents(hub)).toEqual({});
  expect(contents(hub, "v1")).toEqual(contents(hub, "refs/pr/1"));
});

it("sends shards while later layers are quantized, gives them up with --no-keep, and says where the result is", async () => {
  const { code, stdout, stderr } = await run(["quantize", DEMO_MODEL, "-o", join(root, "pushed"), "--push", "org/new", "--no-keep", ...ONE_CORE, "--samples", "1", "--sequence-length", "16", "--quality", "fast", "--refine", "0", "--no-awq", "--max-shard-size", "200kB"]);
  expect(code).toBe(0);
  expect(stdout).toContain(`\nPublished: ${hub.url}/org/new\n`);
  expect(stderr.indexOf("model-00001-of-00004.safetensors is on the Hub")).toBeGreaterThan(0);
  expect(stderr.indexOf("model-00001-of-00004.safetensors is on the Hub")).toBeLessThan(stderr.indexOf("layer 4/4"));
  expect(shardsIn(join(root, "pushed"))).toEqual([]);
  expect(Object.keys(onlyShards(contents(hub)))).toHaveLength(4);
});
