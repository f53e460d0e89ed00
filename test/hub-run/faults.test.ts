import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { InputError } from "#src/errors.js";
import { openFolderSink } from "#src/pipeline/folder-sink.js";
import { prepareRun } from "#src/pipeline/prepare-run.js";
import { runQuantize } from "#src/pipeline/quantize.js";
import { openHub } from "#src/source/hub.js";
import { FAULTS, startLoopbackHub, type Fault, type LoggedRequest } from "../../scripts/loopback-hub/server.js";
import { DEMO_MODEL } from "../cli/cli.js";
import { generator } from "../quantize/random.js";

const root = mkdtempSync(join(tmpdir(), "hub-faults-"));
/** One for all runs: to make it takes longer than a run. */
const engine = await createOnnxEngine({ threads: 1 });
afterAll(async () => {
  await engine.close();
  rmSync(root, { recursive: true, force: true });
});

const FILES = Object.fromEntries(readdirSync(DEMO_MODEL).map((name) => [name, readFileSync(join(DEMO_MODEL, name))]));
const CHECKPOINT = FILES["model.safetensors"].length;
const TOKEN = "hf_thisIsASecretOfTheTests";
const SCHEDULES = 200;

interface Ended {
  readonly error?: unknown;
  readonly requests: readonly LoggedRequest[];
}

/** A run from a Hub whose requests go wrong as `faultOf` says; waits take no time. */
async function run(output: string, faultOf: (count: number) => Fault | undefined): Promise<Ended> {
  const server = await startLoopbackHub({ token: TOKEN, repos: [{ type: "model", id: "org/demo", files: FILES, private: true }], fault: ({ count }) => faultOf(count) });
  const sink = await openFolderSink(output);
  try {
    const hub = { endpoint: server.url, token: TOKEN, fetch };
    const source = await openHub(hub, { type: "model", id: "org/demo" }, undefined, { sleep: () => Promise.resolve() });
    try {
      await runQuantize({
        source, sink, prepared: await prepareRun(source, { method: "rtn", search: false }),
        engine: () => Promise.resolve({ ...engine, close: () => Promise.resolve() }),
        calibration: () => Promise.reject(new Error("rtn needs none")),
      });
      return { requests: server.requests };
    } finally {
      await source.close();
    }
  } catch (error) {
    return { error, requests: server.requests };
  } finally {
    await sink.close();
    await server.close();
  }
}

/** Every file of a finished run but the report and the card, which tell times and bytes read. */
const contents = (folder: string): Record<string, string> =>
  Object.fromEntries(readdirSync(folder).filter((name) => !["shardsmith.json", "README.md"].includes(name)).sort().map((name) => [name, readFileSync(join(folder, name), "base64")]));

/** Bytes of weights that were sent in answers that did not go wrong. */
const sound = (requests: readonly LoggedRequest[]): number => requests.filter(({ port, fault }) => port === "cdn" && fault === undefined).reduce((sum, { sent }) => sum + sent, 0);

it(`comes to the same bytes under ${String(SCHEDULES)} schedules of faults, or says what is wrong and goes on when asked again`, { timeout: 300_000 }, async () => {
  const whole = join(root, "whole");
  const undisturbed = await run(whole, () => undefined);
  expect(undisturbed.error).toBeUndefined();
  const expected = contents(whole);
  expect(sound(undisturbed.requests)).toBeLessThanOrEqual(1.01 * CHECKPOINT + 64 * 1024);
  const seen = new Set<Fault>();
  let failed = 0;
  for (let seed = 1; seed <= SCHEDULES; seed++) {
    const random = generator(seed);
    // From a fault now and then to hardly an answer that is sound.
    const share = random() ** 2;
    const schedule = Array.from({ length: 400 }, () => (random() < share ? FAULTS[Math.floor(random() * FAULTS.length)] : undefined));
    const output = join(root, String(seed));
    const ended = await run(output, (count) => schedule[count]);
    for (const { fault } of ended.requests) if (fault !== undefined) seen.add(fault);
    let requests = ended.requests;
    if (ended.error !== undefined) {
      failed += 1;
      expect(ended.error).toBeInstanceOf(InputError);
      expect((ended.error as Error).message).not.toContain(TOKEN);
      const again = await run(output, () => undefined);
      expect(again.error).toBeUndefined();
      requests = [...requests, ...again.requests];
    } else {
      // What went wrong is read again, and nothing else.
      expect(sound(requests)).toBeLessThanOrEqual(1.01 * CHECKPOINT + 64 * 1024);
    }
    expect(contents(output)).toEqual(expected);
    expect(requests.filter(({ port, authorization }) => port === "cdn" && authorization !== undefined)).toEqual([]);
    rmSync(output, { recursive: true });
  }
  expect([...seen].sort()).toEqual([...FAULTS].sort());
  expect(failed).toBeGreaterThan(0);
  expect(failed).toBeLessThan(SCHEDULES / 2);
});
