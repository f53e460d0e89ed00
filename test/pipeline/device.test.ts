import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { evaluate, InputError, quantize, type Report } from "shardsmith";
import type { Engine } from "#src/engine/engine.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { forwardOnWebGpu } from "#src/engine/onnx/forward-on-webgpu.js";
import { openFolderSink } from "#src/pipeline/folder-sink.js";
import { prepareRun } from "#src/pipeline/prepare-run.js";
import { runQuantize } from "#src/pipeline/quantize.js";
import { openFolder } from "#src/source/folder.js";
import { describeGpu } from "../engine/gpu/adapter-for-tests.js";
import { DEMO_MODEL } from "../cli/cli.js";
import { openWithNpm } from "../safetensors/files.js";

const STORIES = fileURLToPath(new URL("../../../shared/models/stories260K", import.meta.url));
const TEXT = fileURLToPath(new URL("../../../shared/text/tinystories.txt", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "device-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

it("refuses a device that there is not", async () => {
  await expect(quantize({ source: DEMO_MODEL, output: join(root, "none"), device: "tpu" as never })).rejects.toThrow(new InputError('device is "tpu"; it must be one of auto, cpu, gpu'));
});

describeGpu("stories260K by a GPU", () => {
  const whys: string[] = [];
  const make = (device: "auto" | "cpu" | "gpu", output: string): Promise<Report> =>
    quantize({
      source: STORIES, output: join(root, output), device, format: "compressed-tensors", groupSize: -1, calibration: TEXT, samples: 8, sequenceLength: 128, quality: "balanced", refine: 2,
      onEvent: (event) => { if (event.type === "device") whys.push(event.why); },
    });

  it("agrees with the CPU's in its codes and its perplexity, and names the device of every linear", async () => {
    await make("cpu", "cpu");
    const { linears, engine, warnings } = await make("gpu", "gpu");
    // No linear was lost on the way, and made by the CPU after all.
    expect(warnings).toEqual([]);
    const name = engine.split("; Hessians by gpu.js on ")[1];
    expect(whys.at(-1)).toBe(`on ${name}; the forward pass stays on the CPU, since the GPU is software`);
    expect(new Set(linears.flatMap(({ quantized }) => quantized?.device ?? []))).toEqual(new Set([name]));

    const [cpu, gpu] = [codesIn("cpu"), codesIn("gpu")];
    const same = cpu.filter((code, i) => code === gpu[i]).length;
    expect(cpu.length).toBe(227_840);
    expect(same / cpu.length).toBeGreaterThan(0.995);
    const perplexity = async (of: string): Promise<number> => (await evaluate({ model: join(root, of), text: TEXT, maxTokens: 2048 })).perplexity;
    expect((await perplexity("gpu")) / (await perplexity("cpu"))).toBeCloseTo(1, 4);
  });

  it("is gone on with there when nothing else is asked for, and is another run than one on the CPU", async () => {
    // Both are finished: what they were is read, and nothing is computed.
    await make("auto", "gpu");
    await make("auto", "cpu");
    expect(whys.slice(-2)).toEqual([expect.not.stringMatching(/^on the CPU/), "on the CPU"]);
    await expect(make("cpu", "gpu")).rejects.toThrow(/holds another run: engine was .*Hessians by gpu\.js on/);
  });
});

describeGpu("stories260K with its forward pass on a GPU", () => {
  const make = async (output: string, engine: () => Promise<Engine>): Promise<Report> => {
    const [source, sink] = [await openFolder(STORIES), await openFolderSink(join(root, output))];
    try {
      return await runQuantize({
        source, sink, engine,
        prepared: await prepareRun(source, { format: "compressed-tensors", groupSize: -1, samples: 3, sequenceLength: 24, quality: "fast", awq: false, refine: 0 }),
        calibration: () => Promise.resolve({ texts: [{ origin: "the test", documents: [readFileSync(TEXT, "utf8").slice(0, 2000)] }] }),
      });
    } finally {
      await sink.close();
      await source.close();
    }
  };
  const cpu = (): Promise<Engine> => createOnnxEngine({ threads: 1 });

  it("agrees with the CPU's in its codes, is bounded in its memory, and named for every linear", async () => {
    await make("forward-cpu", cpu);
    const { linears, warnings, deviceMemory } = await make("forward-gpu", async () => forwardOnWebGpu(await cpu(), { gpu: "the GPU", strict: true }));
    expect(warnings).toEqual([]);
    expect(new Set(linears.map(({ quantized: { forward, device } = {} }) => `${String(forward)}, ${String(device)}`))).toEqual(new Set(["the GPU, CPU"]));
    // The largest stage is gate and up; one stage's weights are there, and inputs and outputs of 72 tokens.
    expect(deviceMemory).toBeGreaterThan(4 * 2 * 64 * 172);
    expect(deviceMemory).toBeLessThan(4 * (2 * 64 * 172 + 64 + 72 * (64 + 64 + 64 + 172)) + 1);
    const [ours, its] = [codesIn("forward-cpu"), codesIn("forward-gpu")];
    expect(ours.filter((code, i) => code === its[i]).length / ours.length).toBeGreaterThan(0.995);
  });
});

/** Every code of a checkpoint in format compressed-tensors at 4 bits. */
function codesIn(folder: string): number[] {
  const file = openWithNpm(Uint8Array.from(readFileSync(join(root, folder, "model.safetensors"))));
  return [...file.metadata.keys()].filter((name) => name.endsWith(".weight_packed")).flatMap((name) => [...file.getTensor(name)].flatMap((byte) => [byte & 15, byte >> 4]));
}
