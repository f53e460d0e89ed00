import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { evaluate, inspect, planQuantize, quantize, type QuantizeOptions } from "shardsmith";
import { DEMO_MODEL, ONE_CORE, shardsmith } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "lm-head-"));
const UNTIED = join(root, "untied");
beforeAll(async () => {
  const { makeUntied } = (await import(new URL("../../scripts/readers/untied.js", import.meta.url).href)) as { makeUntied: (from: string, to: string) => void };
  makeUntied(DEMO_MODEL, UNTIED);
});
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

const FEW = { samples: 4, sequenceLength: 64, groupSize: 32, quality: "fast", refine: 0, awq: false, threads: 1, device: "cpu" } as const;

it.each(["gptq", "compressed-tensors"])("is written, listed, counted and read as planned, in the format %s", async (format) => {
  const output = join(root, format);
  const report = await quantize({ source: UNTIED, output, ...FEW, bits: 4, lmHead: 8, format });
  expect(report.linears.at(-1)).toMatchObject({ name: "lm_head", outFeatures: 1024, inFeatures: 128, quantized: { method: "gptq", bits: 8, groupSize: 32 } });
  expect(report.linears.at(-1)!.quantized!.relativeError).toBeLessThan(1e-4);
  const { quantization, tensors } = await inspect(output);
  expect(quantization).toMatchObject({ linears: 29, mix: [{ bits: 8, linears: 1 }, { bits: 4, linears: 28 }] });
  expect(tensors.map(({ name }) => name)).not.toContain("lm_head.weight");
  const weights = report.linears.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0);
  expect((8 * quantization!.bytes) / weights).toBeCloseTo(report.bitsPerWeight, 6);

  // With one that is rounded to other bits, the model is another, if not by much.
  const { klDivergence } = (await evaluate({ model: output, against: UNTIED, maxTokens: 256, sequenceLength: 128, threads: 1 })).against!;
  expect(klDivergence).toBeGreaterThan(0);
  expect(klDivergence).toBeLessThan(0.1);
});

it("is aimed at what the original computes, where the others are", async () => {
  const { linears, warnings } = await quantize({ source: UNTIED, output: join(root, "retargeted"), ...FEW, bits: 3, lmHead: 4, retarget: true });
  expect(linears.at(-1)).toMatchObject({ name: "lm_head", quantized: { method: "gptq", bits: 4 } });
  expect(warnings.filter((warning) => warning.startsWith("lm_head"))).toEqual([]);
});

it("comes last, and is taken up where a run was killed in it", async () => {
  const args = ["quantize", UNTIED, "--json", ...ONE_CORE, "--samples", "2", "--sequence-length", "32", "--quality", "fast", "--refine", "0", "--no-awq", "--lm-head", "8", "--max-shard-size", "100kB"];
  const whole = join(root, "whole");
  expect(await shardsmith([...args, "-o", whole])).toMatchObject({ code: 0 });
  const killed = join(root, "killed");
  const { code } = await shardsmith([...args, "-o", killed], (line, kill) => {
    if (line.includes('"type":"layer","layer":3')) kill("SIGKILL");
  });
  expect(code).toBe("SIGKILL");
  const again = await shardsmith([...args, "-o", killed]);
  expect(again).toMatchObject({ code: 0 });
  expect(again.stdout).toContain('"type":"resume"');
  const { weight_map: map } = JSON.parse(readFileSync(join(whole, "model.safetensors.index.json"), "utf8")) as { weight_map: Record<string, string> };
  const files = [...new Set(Object.values(map))].sort();
  expect(map["lm_head.g_idx"]).toBe(files.at(-1));
  for (const file of [...files, "config.json"]) expect(readFileSync(join(killed, file)).equals(readFileSync(join(whole, file)))).toBe(true);
});

it("is refused where there is none to be quantized, or the format cannot hold it", async () => {
  const plan = (options: Partial<QuantizeOptions>) => planQuantize({ source: UNTIED, method: "rtn", ...options });
  await expect(plan({ source: DEMO_MODEL, lmHead: 8 })).rejects.toThrow(
    "lm_head cannot be quantized: this model has none of its own, its embedding serves as lm_head (tie_word_embeddings). Leave it as it is",
  );
  await expect(plan({ lmHead: 3 as 4 })).rejects.toThrow("lm_head is 3; it may be 8, 6, 4");
  const { plan: planned, bytes } = await plan({ lmHead: 8 });
  expect(planned.linears.at(-1)).toMatchObject({ name: "lm_head", scheme: { bits: 8, groupSize: 128 } });
  expect((await plan({ lmHead: 4 })).bytes).toBeLessThan(bytes);
});
