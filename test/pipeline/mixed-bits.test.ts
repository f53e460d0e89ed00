import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { evaluate, inspect, quantize, type QuantizeOptions } from "shardsmith";
import { DEMO_MODEL } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "mixed-bits-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });
const FEW = { samples: 4, sequenceLength: 64, groupSize: 32, quality: "fast", refine: 0, awq: false, threads: 1, device: "cpu" } as const;
const made = async (name: string, options: Partial<QuantizeOptions>) => {
  const output = join(root, name);
  const report = await quantize({ source: DEMO_MODEL, output, ...FEW, ...options });
  const against = (await evaluate({ model: output, against: DEMO_MODEL, maxTokens: 512, sequenceLength: 128, threads: 1 })).against!;
  return { output, report, kl: against.klDivergence };
};

describe.each(["gptq", "compressed-tensors", "mlx"])("several bits in one checkpoint, %s", (format) => {
  it("are written, listed, counted and read as planned, and are worth what they cost", async () => {
    const plain = await made(`${format}-plain`, { format });
    const mixed = await made(`${format}-mixed`, { format, bitsFor: [{ pattern: "*.layers.0.*", bits: 8 }], keep: ["*.3.mlp.down_proj"] });
    const eight = await made(`${format}-eight`, { format, bits: 8 });
    expect(mixed.report.linears.map(({ name, quantized }) => [name, quantized?.bits])).toEqual(
      plain.report.linears.map(({ name }) => [name, name.includes(".0.") ? 8 : name.endsWith("3.mlp.down_proj") ? undefined : 4]),
    );
    expect((await inspect(mixed.output)).quantization).toMatchObject({ bits: 4, linears: 27, mix: [{ bits: 8, linears: 7 }, { bits: 4, linears: 20 }] });
    expect((await inspect(eight.output)).quantization!.mix).toEqual([{ bits: 8, linears: 28 }]);
    // What is promised before is what lies there after.
    const { bytes } = (await inspect(mixed.output)).quantization!;
    const weights = mixed.report.linears.reduce((sum, { quantized, inFeatures, outFeatures }) => sum + (quantized ? inFeatures * outFeatures : 0), 0);
    expect((8 * bytes) / weights).toBeCloseTo(mixed.report.bitsPerWeight, 6);
    expect(plain.kl).toBeGreaterThan(mixed.kl);
    expect(mixed.kl).toBeGreaterThan(eight.kl);
  }, 60_000);
});

it("are part of what a run is", async () => {
  const options = { source: DEMO_MODEL, output: join(root, "identity"), method: "rtn", threads: 1 } as const;
  await quantize({ ...options, bitsFor: [{ pattern: "*.down_proj", bits: 8 }] });
  const { run } = JSON.parse(readFileSync(join(options.output, "shardsmith.json"), "utf8")) as { run: Record<string, unknown> };
  expect(run).toMatchObject({ bits: 4, "bits for": "*.down_proj=8" });
  await expect(quantize({ ...options, keep: ["*.0.*"] })).rejects.toThrow(
    `${options.output} holds another run: bits for was *.down_proj=8, now absent; keep was absent, now *.0.*. Repeat its options to go on with it, choose another folder, or use --overwrite`,
  );
});
