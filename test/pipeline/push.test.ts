import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { quantize, type QuantizeEvent, type QuantizeOptions } from "#src/index.js";
import { filesOf } from "../../scripts/loopback-hub/files-of.js";
import { DEMO_MODEL } from "../cli/cli.js";
import { filesIn, hashOf, onlyShards, shardsIn } from "../publish/command.js";
import { contents, puts, startHubOfEnvironment } from "../publish/hub.js";

const root = mkdtempSync(join(tmpdir(), "push-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

let hub: Awaited<ReturnType<typeof startHubOfEnvironment>>;
beforeEach(async () => { hub = await startHubOfEnvironment(); });
afterEach(() => hub.close());

const SETTINGS = { source: DEMO_MODEL, method: "rtn", maxShardSize: 200_000, threads: 1 } as const;
/** @returns all events. */
async function run(output: string, options: Partial<QuantizeOptions> = {}): Promise<QuantizeEvent[]> {
  const events: QuantizeEvent[] = [];
  await quantize({
    ...SETTINGS, output, push: { repo: "org/new" }, ...options,
    onEvent: (event) => {
      events.push(event);
      options.onEvent?.(event);
    },
  });
  return events;
}

/** What a run leaves that publishes nothing. */
const whole = join(root, "whole");
beforeAll(async () => {
  await quantize({ ...SETTINGS, output: whole });
  expect(shardsIn(whole)).toHaveLength(4);
});

it("publishes what it writes, and finds it there the next time", async () => {
  const output = join(root, "pushed");
  expect(await run(output)).toContainEqual({ type: "published", repo: "org/new", url: `${hub.url}/org/new`, changed: true });
  expect(contents(hub)).toEqual(filesIn(output));
  expect(onlyShards(contents(hub))).toEqual(onlyShards(filesIn(whole)));
  const before = puts(hub).length;
  expect(await run(output)).toContainEqual({ type: "published", repo: "org/new", url: `${hub.url}/org/new`, changed: false });
  expect(puts(hub)).toHaveLength(before);
});

it("publishes a run that was finished without", async () => {
  const output = join(root, "later");
  await quantize({ ...SETTINGS, output });
  expect((await run(output)).at(-1)).toMatchObject({ type: "done", already: true });
  expect(onlyShards(contents(hub))).toEqual(onlyShards(filesIn(whole)));
});

it("with keepShards false leaves no shard here, at no moment more than two, and is taken up from there", async () => {
  const output = join(root, "gone");
  const gone = { keepShards: false };
  const controller = new AbortController();
  let most = 0;
  let uploaded = 0;
  const stopped = run(output, { ...gone, signal: controller.signal, onEvent: ({ type }) => {
    most = Math.max(most, existsSync(output) ? shardsIn(output).length : 0);
    if (type === "uploaded" && (uploaded += 1) === 2) controller.abort(new Error("stopped"));
  } });
  await expect(stopped).rejects.toThrow("stopped");
  expect(most).toBeLessThan(3);
  expect(contents(hub)).toEqual({});
  const sent = puts(hub).length;
  // Without --push, or to another repo, it cannot be whole.
  const first = `${output}: model-00001-of-00004.safetensors was sent to org/new and deleted here; go on with --push org/new, or use --overwrite to start anew`;
  await expect(quantize({ ...SETTINGS, output })).rejects.toThrow(first);
  await expect(run(output, { push: { repo: "org/another" } })).rejects.toThrow(first);
  const events = await run(output, gone);
  expect(events.map(({ type }) => type)).toContain("resume");
  expect(shardsIn(output)).toEqual([]);
  expect(onlyShards(contents(hub))).toEqual(onlyShards(filesIn(whole)));
  const hashes = ["model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors"].map((name) => hashOf(join(whole, name)));
  expect(puts(hub).slice(sent).filter(({ url }) => hashes.some((hash) => url.includes(hash)))).toEqual([]);
  expect(await run(output, gone)).toContainEqual({ type: "published", repo: "org/new", url: `${hub.url}/org/new`, changed: false });
});

it("goes on where a shard cannot be sent, and sends it at the end", async () => {
  for (let i = 0; i < 4; i += 1) hub.faults.push({ at: /^PUT .*partNumber=1&/, kind: "expired" });
  const output = join(root, "late");
  const events = await run(output);
  const warnings = events.flatMap((event) => (event.type === "warning" ? [event.message] : []));
  expect(warnings).toEqual([expect.stringMatching(/^model-00001-of-00004\.safetensors could not be sent; the run goes on, and it is tried once more at the end: .*status 403/)]);
  expect(contents(hub)).toEqual(filesIn(output));
});

it("refuses before it computes where the token may not write, and leaves nothing behind", async () => {
  const output = join(root, "refused");
  vi.stubEnv("HF_TOKEN", "hf_reads");
  const types: string[] = [];
  await expect(run(output, { onEvent: ({ type }) => types.push(type) })).rejects.toThrow(`${hub.url}/org/new: the token may only read; make one that may write at ${hub.url}/settings/tokens`);
  expect(types).toEqual([]);
  expect(existsSync(output)).toBe(false);
});

it("refuses what does not go together", async () => {
  const output = join(root, "never");
  await expect(quantize({ ...SETTINGS, output, keepShards: false })).rejects.toThrow("shards can be given up only where they are pushed to the Hub; name a repo to push to");
  hub.addRepo({ type: "model", id: "org/source", files: filesOf(DEMO_MODEL) });
  await expect(run(output, { source: "org/source", push: { repo: "org/source" } })).rejects.toThrow("org/source is the source itself, and would be replaced; push to another repo, or name a branch by --revision");
  expect(existsSync(output)).toBe(false);
});
