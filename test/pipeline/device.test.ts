import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { evaluate, InputError, quantize, type Report } from "shardsmith";
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
    const name = whys.at(-1)!.replace(/^on /, "");
    expect(engine).toContain(`; Hessians by gpu.js on ${name}`);
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

/** Every code of a checkpoint in format compressed-tensors at 4 bits. */
function codesIn(folder: string): number[] {
  const file = openWithNpm(Uint8Array.from(readFileSync(join(root, folder, "model.safetensors"))));
  return [...file.metadata.keys()].filter((name) => name.endsWith(".weight_packed")).flatMap((name) => [...file.getTensor(name)].flatMap((byte) => [byte & 15, byte >> 4]));
}
