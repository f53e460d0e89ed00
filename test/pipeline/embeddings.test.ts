import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { evaluate, inspect, planQuantize, quantize, type QuantizeEvent, type QuantizeOptions } from "shardsmith";
import { DEMO_MODEL, shardsmith } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "embeddings-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

const FEW = { source: DEMO_MODEL, samples: 4, sequenceLength: 64, groupSize: 32, quality: "fast", refine: 0, awq: false, format: "onnx", threads: 1, device: "cpu" } as const;
const made = (name: string, options: Partial<QuantizeOptions> = {}) => quantize({ ...FEW, output: join(root, name), ...options });
const weightsOf = (name: string): Buffer => readFileSync(join(root, name, "onnx/model_q4.onnx_data"));

it("are rounded, listed, counted and read as planned, and cost little in 8 bits", async () => {
  const { linears, bytes, bitsPerWeight, warnings } = await made("eight", { embeddings: 8 });
  expect(linears).toHaveLength(29);
  expect(linears.at(-1)).toMatchObject({ name: "model.embed_tokens", outFeatures: 1024, inFeatures: 128, quantized: { method: "rtn", bits: 8, groupSize: 32 } });
  expect(warnings).toEqual([]);
  const plan = await planQuantize({ ...FEW, embeddings: 8 });
  expect([plan.bytes, plan.overview.bitsPerWeight]).toEqual([bytes, bitsPerWeight]);
  expect(plan.overview.linears).toContainEqual(expect.objectContaining({ kind: "model.embed_tokens", bits: 8, groupSize: 32 }));
  const { tensors, quantization } = await inspect(join(root, "eight"));
  expect(quantization).toMatchObject({ linears: 29, mix: [{ bits: 8, linears: 1 }, { bits: 4, linears: 28 }] });
  expect(tensors.map(({ name }) => name)).toEqual(expect.arrayContaining(["model.embed_tokens.weight_Q8", "model.embed_tokens.weight_scales"]));
  expect(tensors.map(({ name }) => name)).not.toContain("model.embed_tokens.weight");

  // The rest is what it is without it: calibration goes by the original table.
  await made("plain");
  const plain = await inspect(join(root, "plain"));
  for (const { name, bytes: size } of plain.tensors.filter((tensor) => tensor.name.includes("layers"))) expect(tensors.find((tensor) => tensor.name === name)?.bytes).toBe(size);
  const [without, within] = await Promise.all(["plain", "eight"].map(async (name) =>
    (await evaluate({ model: join(root, name), against: DEMO_MODEL, maxTokens: 256, sequenceLength: 128 })).against!.klDivergence));
  expect(within).not.toBe(without);
  expect(Math.abs(within - without)).toBeLessThan(0.002);
});

it("are the same when every linear is rounded, and where a run was interrupted", async () => {
  const { linears } = await made("rounded", { embeddings: 4, method: "rtn" });
  expect(linears.at(-1)).toMatchObject({ name: "model.embed_tokens", quantized: { method: "rtn", bits: 4 } });

  // In the middle, and between the last layer and the table.
  for (const layer of [1, 3]) {
    const controller = new AbortController();
    const stopping = { signal: controller.signal, onEvent: (event: QuantizeEvent) => { if (event.type === "layer" && event.layer === layer) controller.abort(new Error("stopped")); } };
    rmSync(join(root, "interrupted"), { recursive: true, force: true });
    await expect(made("interrupted", { embeddings: 8, ...stopping })).rejects.toThrow("stopped");
    expect(readdirSync(join(root, "interrupted"))).not.toContain("config.json");
    await made("interrupted", { embeddings: 8 });
    expect(weightsOf("interrupted").equals(weightsOf("eight"))).toBe(true);
  }
});

it("are refused where they cannot be", async () => {
  await expect(planQuantize({ ...FEW, format: "gptq", embeddings: 8 })).rejects.toThrow("embeddings cannot be quantized in the gptq format: its readers take them as they are");
  await expect(planQuantize({ ...FEW, embeddings: 3 as 4 })).rejects.toThrow("embeddings is 3; it may be 8, 6, 4");
  const { code, stdout } = await shardsmith(["plan", DEMO_MODEL, "--format", "onnx", "--embeddings", "8"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^model\.embed_tokens +1 +1024 × 128 +8 bits, 128 +262 kB +\d+ kB$/m);
  expect(stdout).toContain("--format gptq: embeddings cannot be quantized in the gptq format: its readers take them as they are");
});
