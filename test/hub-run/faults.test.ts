import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { InputError } from "#src/errors.js";
import { openFolderSink } from "#src/pipeline/folder-sink.js";
import type { QuantizeSettings } from "#src/pipeline/options.js";
import { prepareRun } from "#src/pipeline/prepare-run.js";
import { runQuantize } from "#src/pipeline/quantize.js";
import { openHubPublisher } from "#src/publish/hub-publisher.js";
import { openHub } from "#src/source/hub.js";
import { filesOf } from "../../scripts/loopback-hub/files-of.js";
import { FAULTS, startLoopbackHub, WRITE_FAULTS, type Fault, type LoggedRequest, type LoopbackHub } from "../../scripts/loopback-hub/server.js";
import { DEMO_MODEL } from "../cli/cli.js";
import { generator } from "../quantize/random.js";

const root = mkdtempSync(join(tmpdir(), "hub-faults-"));
/** One for all runs: to make it takes longer than a run. */
const engine = await createOnnxEngine({ threads: 1 });
afterAll(async () => {
  await engine.close();
  rmSync(root, { recursive: true, force: true });
});

const FILES = filesOf(DEMO_MODEL);
const CHECKPOINT = FILES["model.safetensors"].length;
const TOKEN = "hf_thisIsASecretOfTheTests";
const SCHEDULES = 200;
const ALL_FAULTS = [...new Set<Fault>([...FAULTS, ...WRITE_FAULTS])];
/** Milliseconds that a schedule with stalls waits for bytes: enough for a server that is busy beside other tests. */
const STALL = 500;
const ROUNDED: QuantizeSettings = { method: "rtn", search: false, maxShardSize: 200_000 };
const CALIBRATED: QuantizeSettings = { samples: 2, sequenceLength: 32, quality: "fast", refine: 0, search: false, awq: false, maxShardSize: 200_000 };
const TEXT = Array.from({ length: 10 }, (_, i) => `The ${String(i)}th line of a text, as long as it takes to calibrate a small model on it. `.repeat(4));

interface Ended {
  readonly error?: unknown;
  readonly requests: readonly LoggedRequest[];
}

const serve = (faultOf: (count: number) => Fault | undefined): Promise<LoopbackHub> =>
  startLoopbackHub({ token: TOKEN, repos: [{ type: "model", id: "org/demo", files: FILES, private: true }], partSize: 128 * 1024, fault: ({ count }) => faultOf(count) });

/** A run from a Hub to it, with no shard kept; waits take no time. @param until after this layer it is interrupted */
async function run(output: string, server: LoopbackHub, settings = ROUNDED, stalls = false, until?: number): Promise<Ended> {
  const before = server.requests.length;
  const sink = await openFolderSink(output);
  const patience = { sleep: () => Promise.resolve(), ...(stalls && { stall: STALL }) };
  const interrupting = new AbortController();
  const ended = (error?: unknown): Ended => ({ error, requests: server.requests.slice(before) });
  try {
    const hub = { endpoint: server.url, token: TOKEN, fetch };
    const source = await openHub(hub, { type: "model", id: "org/demo" }, undefined, patience);
    try {
      await runQuantize({
        source, sink, prepared: await prepareRun(source, settings),
        engine: () => Promise.resolve({ ...engine, close: () => Promise.resolve() }),
        calibration: () => Promise.resolve({ texts: [{ documents: TEXT, origin: "a text" }] }),
        signal: interrupting.signal,
        onEvent: (event) => { if (event.type === "layer" && event.layer === until) interrupting.abort(new InputError("interrupted")); },
        publisher: await openHubPublisher(hub, { repo: "org/new", private: true }, patience),
        keepShards: false,
      });
      return ended();
    } finally {
      await source.close();
    }
  } catch (error) {
    return ended(error);
  } finally {
    await sink.close();
  }
}

/** Every file that was published but the report and the card, which tell times and bytes read. */
const contents = (server: LoopbackHub): Record<string, string> =>
  Object.fromEntries(
    [...(server.repo("model", "org/new")?.at("main")?.files ?? [])].filter(([name]) => !["shardsmith.json", "README.md", ".gitattributes"].includes(name)).sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, { bytes }]) => [name, Buffer.from(bytes).toString("base64")]),
  );

/** Bytes of weights that were sent in answers that did not go wrong. */
const sound = (requests: readonly LoggedRequest[]): number => requests.filter(({ port, fault }) => port === "cdn" && fault === undefined).reduce((sum, { sent }) => sum + sent, 0);

/** Bytes of shards that the Hub took. */
const taken = (requests: readonly LoggedRequest[]): number => requests.filter(({ port, method, status }) => port === "cdn" && method === "PUT" && status === 200).reduce((sum, { received }) => sum + received, 0);

it(`comes to the same bytes under ${String(SCHEDULES)} schedules of faults, or says what is wrong and goes on when asked again`, { timeout: 600_000 }, async () => {
  const [quiet, calm] = [await serve(() => undefined), await serve(() => undefined)];
  const undisturbed = await run(join(root, "whole"), quiet);
  expect(undisturbed.error).toBeUndefined();
  const rounded = contents(quiet);
  expect((await run(join(root, "calibrated"), calm, CALIBRATED)).error).toBeUndefined();
  const calibrated = contents(calm);
  await calm.close();
  expect(calibrated).not.toEqual(rounded);
  const shards = Object.keys(rounded).filter((name) => name.endsWith(".safetensors"));
  expect(shards.length).toBeGreaterThan(2);
  const bytes = shards.reduce((sum, name) => sum + Buffer.from(rounded[name], "base64").length, 0);
  expect(sound(undisturbed.requests)).toBeLessThanOrEqual(1.01 * CHECKPOINT + 64 * 1024);
  expect(taken(undisturbed.requests)).toBe(bytes);
  await quiet.close();
  const seen = new Set<Fault>();
  let failed = 0;
  for (let seed = 1; seed <= SCHEDULES; seed++) {
    const random = generator(seed);
    // From a fault now and then to hardly an answer that is sound.
    let share = random() ** 2;
    // Each of these takes its time: a few are enough to see that nothing else is different with them.
    const stalls = seed % 20 === 0;
    const isCalibrated = seed % 20 === 10;
    const [settings, expected] = isCalibrated ? [CALIBRATED, calibrated] : [ROUNDED, rounded];
    const until = isCalibrated ? Math.floor(random() * 3) : undefined;
    if (stalls) share = 0.05 + 0.1 * share;
    const faults = stalls ? [...ALL_FAULTS, ...Array.from({ length: ALL_FAULTS.length }, () => "stall" as const)] : ALL_FAULTS;
    const server = await serve(() => (random() < share ? faults[Math.floor(random() * faults.length)] : undefined));
    const output = join(root, String(seed));
    const ended = await run(output, server, settings, stalls, until);
    for (const { fault } of ended.requests) if (fault !== undefined) seen.add(fault);
    if (ended.error !== undefined) {
      failed += 1;
      expect(ended.error).toBeInstanceOf(InputError);
      expect((ended.error as Error).message).not.toContain(TOKEN);
      // No half of it is ever to be seen.
      expect([{}, expected]).toContainEqual(contents(server));
      share = 0;
      const again = await run(output, server, settings);
      expect(again.error).toBeUndefined();
    } else if (!stalls) {
      // What went wrong is read again, and nothing else.
      expect(sound(ended.requests)).toBeLessThanOrEqual(1.01 * CHECKPOINT + 64 * 1024);
    }
    // Sent once, but for uploads that broke beyond mending: their addresses were over, or an answer was lost.
    const { requests } = server;
    if (!stalls && !requests.some(({ fault }) => fault === "expired" || fault === "lost") && ended.error === undefined) expect(taken(requests)).toBe(bytes);
    expect(contents(server)).toEqual(expected);
    expect(readdirSync(output).filter((name) => name.endsWith(".safetensors"))).toEqual([]);
    expect(requests.filter(({ port, authorization }) => port === "cdn" && authorization !== undefined)).toEqual([]);
    await server.close();
    rmSync(output, { recursive: true });
  }
  expect([...seen].sort()).toEqual([...ALL_FAULTS, "stall"].sort());
  expect(failed).toBeGreaterThan(0);
  expect(failed).toBeLessThan(SCHEDULES / 2);
});
