import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { InputError } from "#src/errors.js";
import type { QuantizeEvent } from "#src/pipeline/events.js";
import { openFolderSink } from "#src/pipeline/folder-sink.js";
import type { QuantizeSettings } from "#src/pipeline/options.js";
import { prepareRun } from "#src/pipeline/prepare-run.js";
import { runQuantize } from "#src/pipeline/quantize.js";
import { openFolder } from "#src/source/folder.js";
import type { Source } from "#src/source/source.js";
import { DEMO_MODEL } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "hub-source-"));
/** One for all runs: to make it takes longer than some of them. */
const engine = await createOnnxEngine({ threads: 1 });
afterAll(async () => {
  await engine.close();
  rmSync(root, { recursive: true, force: true });
});

const SETTINGS: QuantizeSettings = { samples: 2, sequenceLength: 32, quality: "fast", refine: 0, search: false, awq: false, memory: 20_000_000 };
const COMMIT = "c".repeat(40);
/** The first read of a file takes its header and what comes behind. */
const FIRST_READ = 64 * 1024;
const TEXT = Array.from({ length: 40 }, (_, i) => `The ${String(i)}th line says that a model is read once, layer by layer, and never twice. `.repeat(6));

/** Every file but the report, which tells times, and the card, which names the source. */
const contents = (folder: string): Record<string, string> =>
  Object.fromEntries(readdirSync(folder).filter((name) => !["shardsmith.json", "README.md", ".shardsmith"].includes(name)).sort().map((name) => [name, readFileSync(join(folder, name), "base64")]));

interface Read { file: string; start: number; end: number }

/** Quantizes the demo model as if from a Hub, or from its folder; tells what was read. */
async function run(output: string, far: boolean, settings: QuantizeSettings = {}, onEvent?: (event: QuantizeEvent, reads: readonly Read[]) => void, signal?: AbortSignal, free?: number) {
  const folder = await openFolder(DEMO_MODEL);
  const reads: Read[] = [];
  const spy: Source = {
    label: far ? `org/demo@${COMMIT.slice(0, 8)}` : folder.label,
    list: () => folder.list(),
    fingerprint: (path) => folder.fingerprint(path),
    read(path, start, end) {
      signal?.throwIfAborted();
      reads.push({ file: path, start, end });
      return folder.read(path, start, end);
    },
  };
  const source = far ? { ...spy, hub: { repo: "org/demo", commit: COMMIT, bytesRead: () => bytesOf(reads) } } : spy;
  const sink = await openFolderSink(output);
  try {
    const report = await runQuantize({
      source, sink, prepared: await prepareRun(source, { ...SETTINGS, ...settings }),
      engine: () => Promise.resolve({ ...engine, close: () => Promise.resolve() }),
      calibration: () => Promise.resolve({ texts: [{ documents: TEXT, origin: "a text" }] }),
      ...(free !== undefined && { freeSpace: () => Promise.resolve(free) }),
      ...(onEvent && { onEvent: (event) => { onEvent(event, reads); } }), ...(signal && { signal }),
    });
    return { report, reads };
  } catch (error) {
    return { error, reads };
  } finally {
    await sink.close();
    await folder.close();
  }
}

const bytesOf = (reads: readonly Read[]): number => reads.reduce((sum, { start, end }) => sum + end - start, 0);
const weights = (reads: readonly Read[]): Read[] => reads.filter(({ file }) => file.endsWith(".safetensors"));

describe("a run from a Hub", () => {
  it.each<[string, QuantizeSettings]>([
    ["gptq, with scales folded into norms", { awq: true }],
    ["two streams", { retarget: true }],
    ["nothing to spare for reading ahead", { memory: 0 }],
    ["rtn", { method: "rtn" }],
    ["linears that stay as they are", { keep: ["*.down_proj", "*.q_proj"] }],
  ])("gives the bytes of a run from the folder, and reads each byte once: %s", async (name, settings) => {
    const [near, far] = [join(root, `near ${name}`), join(root, `far ${name}`)];
    expect((await run(near, false, settings)).error).toBeUndefined();
    const { report, reads, error } = await run(far, true, settings);
    expect(error).toBeUndefined();
    expect(contents(far)).toEqual(contents(near));
    expect(bytesOf(weights(reads))).toBeGreaterThanOrEqual(report!.sourceBytes);
    expect(bytesOf(weights(reads)) - FIRST_READ).toBeLessThanOrEqual(1.01 * report!.sourceBytes);
    // Other files, once each.
    const others = reads.filter(({ file }) => !file.endsWith(".safetensors")).map(({ file }) => file);
    expect(others.length).toBe(new Set(others).size);
  });

  it("keeps what a survey reads, and reads each byte once all the same", async () => {
    const settings: QuantizeSettings = { method: "rtn", samples: 2, sequenceLength: 32, targetBits: 5, groupSize: 32, format: "compressed-tensors" };
    const [near, far, short] = ["near", "far", "short"].map((name) => join(root, `${name} surveyed`));
    expect((await run(near, false, settings)).error).toBeUndefined();
    const { report, reads } = await run(far, true, settings);
    expect(contents(far)).toEqual(contents(near));
    expect(bytesOf(weights(reads))).toBeGreaterThanOrEqual(report!.sourceBytes);
    expect(bytesOf(weights(reads)) - FIRST_READ).toBeLessThanOrEqual(1.01 * report!.sourceBytes);
    expect(report!.warnings).toEqual([]);
    // Interrupted, and taken up: the survey's bytes are still there.
    const taken = join(root, "taken up surveyed");
    const aborting = new AbortController();
    const before = await run(taken, true, { ...settings, memory: 0 }, (event) => {
      if (event.type === "layer" && event.layer === 1) aborting.abort(new Error("enough"));
    }, aborting.signal);
    expect(before.error).toEqual(new Error("enough"));
    const after = await run(taken, true, settings);
    expect(contents(taken)).toEqual(contents(near));
    expect(bytesOf(weights([...before.reads, ...after.reads])) - 2 * FIRST_READ).toBeLessThanOrEqual(1.01 * report!.sourceBytes);
    // Enough for the checkpoint, and not for the source beside it.
    const twice = await run(short, true, settings, undefined, undefined, report!.sourceBytes);
    expect(contents(short)).toEqual(contents(near));
    expect(bytesOf(weights(twice.reads))).toBeGreaterThan(1.9 * report!.sourceBytes);
    expect(twice.report!.warnings).toEqual([`${short} has ${(report!.sourceBytes / 1e6).toFixed(0)} MB free, too little to keep the weights that the survey reads (${(report!.sourceBytes / 1e6).toFixed(0)} MB): they are read from the Hub twice`]);
  });

  it("reads a layer in one request, the next while this one is at work, and says so", async () => {
    const output = join(root, "events");
    const layers: { requests: number; told: number | undefined; bytes: number }[] = [];
    let plan: QuantizeEvent | undefined;
    const { report, reads } = await run(output, true, {}, (event, soFar) => {
      if (event.type === "plan") plan = event;
      if (event.type === "layer") layers.push({ requests: weights(soFar).length, told: event.bytesRead, bytes: bytesOf(soFar) });
    });
    expect(plan).toMatchObject({ source: "org/demo@cccccccc", commit: COMMIT });
    // The header, embedding and lm_head, the last norm, and the layers.
    const few = layers.length + 3;
    expect(weights(reads).length).toBe(few);
    expect(layers.map(({ requests }) => requests)).toEqual(layers.map(() => few));
    expect(layers.map(({ told }) => told)).toEqual(layers.map(({ bytes }) => bytes));
    expect(report).toMatchObject({ source: "org/demo@cccccccc", hub: { repo: "org/demo", commit: COMMIT, bytesRead: bytesOf(reads) }, run: { source: `org/demo@${COMMIT}` } });
  });

  it("reads only the current layer where there is no memory for another", async () => {
    const requests: number[] = [];
    await run(join(root, "no memory"), true, { memory: 0 }, (event, soFar) => {
      if (event.type === "layer") requests.push(weights(soFar).length);
    });
    expect(requests).toEqual(requests.map((_, layer) => 4 + layer));
  });

  it("reads what is left when it is taken up, and gives the same bytes", async () => {
    const [whole, output] = [join(root, "whole"), join(root, "aborted")];
    const { report: first } = await run(whole, true);
    for (const settings of [{ memory: 0 }, {}]) {
      const aborting = new AbortController();
      const reason = new Error("enough");
      const { error } = await run(output, true, settings, (event) => {
        if (event.type === "progress" && event.layer === 2) aborting.abort(reason);
      }, aborting.signal);
      expect(error).toBe(reason);
      const resumed: number[] = [];
      const { report, reads } = await run(output, true, settings, (event) => {
        if (event.type === "resume") resumed.push(event.layer);
      });
      expect(resumed).toEqual([2]);
      expect(contents(output)).toEqual(contents(whole));
      // The last two of four layers.
      expect(bytesOf(weights(reads)) - FIRST_READ).toBeLessThan(0.45 * report!.sourceBytes);
      expect(report!.hub!.bytesRead).toBeLessThan(first!.hub!.bytesRead);
      rmSync(output, { recursive: true });
    }
  });

  it("passes the embedding once more when it is taken up before the first layer", async () => {
    const [whole, output] = [join(root, "whole"), join(root, "aborted early")];
    const aborting = new AbortController();
    const { error } = await run(output, true, {}, (event) => {
      if (event.type === "progress" && event.layer === 0) aborting.abort(new Error("enough"));
    }, aborting.signal);
    expect(error).toEqual(new Error("enough"));
    expect((await run(output, true)).error).toBeUndefined();
    expect(contents(output)).toEqual(contents(whole));
  });

  it("is another run at another commit", async () => {
    const output = join(root, "moved");
    await run(output, true, { method: "rtn" });
    expect((await run(output, false, { method: "rtn" })).error).toEqual(
      new InputError(`${output} holds another run: source was org/demo@${COMMIT}, now absent. Repeat its options to go on with it, choose another folder, or use --overwrite`),
    );
  });
});
