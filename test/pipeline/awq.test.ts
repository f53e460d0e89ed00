import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { evaluate, quantize, type QuantizeOptions } from "shardsmith";
import { DEMO_MODEL } from "../cli/cli.js";
import { readTensors } from "../model/golden.js";

const root = mkdtempSync(join(tmpdir(), "awq-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });
const HELD_OUT = fileURLToPath(new URL("../fixtures/held-out.txt", import.meta.url));

const made = async (name: string, options: Partial<QuantizeOptions>) => {
  const output = join(root, name);
  const report = await quantize({ source: DEMO_MODEL, output, samples: 8, sequenceLength: 128, quality: "fast", refine: 0, threads: 1, device: "cpu", ...options });
  const { klDivergence } = (await evaluate({ model: output, against: DEMO_MODEL, text: HELD_OUT, maxTokens: 4096, sequenceLength: 128, threads: 1 })).against!;
  return { report, klDivergence, norms: normsOf(output) };
};
const normsOf = (model: string): Map<string, number[]> =>
  new Map([...readTensors(join(model, "model.safetensors"))].filter(([name]) => name.includes("norm")).map(([name, { values }]) => [name, Array.from(values)]));
const original = normsOf(DEMO_MODEL);

it("brings a model with outlier channels much nearer to the original, and says where", async () => {
  const [plain, scaled] = [await made("plain", { awq: false }), await made("scaled", {})];
  expect(scaled.klDivergence).toBeLessThan(0.75 * plain.klDivergence);

  // Wherever linears behind a norm have scales, the norm is another, and nowhere else.
  expect(plain.norms).toEqual(original);
  const factors = new Map(scaled.report.linears.map(({ name, quantized }) => [name, quantized!.awq]));
  const changed = [...original.keys()].filter((name) => scaled.norms.get(name)!.some((w, i) => w !== original.get(name)![i]));
  const expected = [...original.keys()].filter((name) => {
    const first = { input_layernorm: "self_attn.q_proj", post_attention_layernorm: "mlp.gate_proj" }[name.split(".").at(-2)!];
    return first !== undefined && factors.get(name.replace(/[^.]+\.weight$/, first)) !== undefined;
  });
  expect(changed).toEqual(expected);
  expect(changed.length).toBeGreaterThan(0);
  for (const factor of factors.values()) if (factor !== undefined) expect(factor).toBeGreaterThan(1);
  // Linears of one stage have one input, and so one factor.
  for (let layer = 0; layer < 4; layer++) {
    for (const stage of [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["mlp.gate_proj", "mlp.up_proj"]]) {
      expect(new Set(stage.map((name) => factors.get(`model.layers.${String(layer)}.${name}`))).size).toBe(1);
    }
  }
  // Attention's and the MLP's output have no norm: scales go into v and up.
  expect([...factors].some(([name, factor]) => /o_proj|down_proj/.test(name) && factor !== undefined)).toBe(true);
  expect(plain.report.linears.some(({ quantized }) => quantized!.awq !== undefined)).toBe(false);
});

it("goes together with two streams, other grids and another order", async () => {
  const options = { bits: 3, groupSize: 32, format: "gptq", symmetric: false, order: "act", retarget: true } as const;
  const [plain, scaled] = [await made("plain act", { ...options, awq: false }), await made("scaled act", options)];
  expect(scaled.report.linears.some(({ quantized }) => quantized!.awq !== undefined)).toBe(true);
  expect(scaled.klDivergence).toBeLessThan(plain.klDivergence);
});

it("folds nothing past a linear that is kept, nor where it is not asked", async () => {
  const { report, norms } = await made("kept", { keep: ["*.v_proj", "*.gate_proj"] });
  expect(norms).toEqual(original);
  expect(report.linears.filter(({ quantized }) => quantized).map(({ name }) => name.replace(/^.*\./, ""))).toEqual(Array(4).fill(["o_proj", "down_proj"]).flat());
  expect(report.linears.some(({ quantized }) => quantized?.awq !== undefined)).toBe(false);
  expect((await made("rounded", { method: "rtn" })).norms).toEqual(original);
});
