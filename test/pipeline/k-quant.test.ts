import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { evaluate, planQuantize, quantize, type QuantizeOptions } from "shardsmith";
import { openModel } from "#src/pipeline/model.js";
import { openFolder } from "#src/source/folder.js";
import { DEMO_MODEL } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "shardsmith-k-quant-"));
const source = join(root, "doubled");
beforeAll(async () => {
  const { makeDoubled } = (await import(new URL("../../scripts/readers/doubled.js", import.meta.url).href)) as { makeDoubled: (from: string, to: string) => void };
  makeDoubled(DEMO_MODEL, source);
});
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

const made = (name: string, settings: Partial<QuantizeOptions>) =>
  quantize({ source, output: join(root, name), format: "gguf", samples: 8, sequenceLength: 64, threads: 1, device: "cpu", ...settings });

describe("K-quants", () => {
  it("are what was computed, Q4_K where channels fill super-blocks and Q4_1 where not, beside other bits", async () => {
    const report = await made("rtn", { kQuant: true, method: "rtn", bitsFor: [{ pattern: "*.down_proj", bits: 8 }] });
    const sources = await Promise.all([source, join(root, "rtn")].map((folder) => openFolder(folder)));
    const [original, model] = await Promise.all(sources.map((opened) => openModel(opened)));
    const types = new Set<string>();
    for (const { name, inFeatures, quantized } of report.linears) {
      const [before, after] = await Promise.all([original.load(`${name}.weight`), model.load(`${name}.weight`)]);
      const error = before.reduce((sum, w, i) => sum + (w - after[i]) ** 2, 0) / before.reduce((sum, w) => sum + w * w, 0);
      expect(error / quantized!.relativeError!).toBeCloseTo(1, 4);
      types.add(`${String(inFeatures)}: ${String(model.checkpoint.tensors.get(`${name}.blocks`)!.shape[2])}`);
    }
    expect(types).toEqual(new Set(["256: 144", "128: 20", "768: 34"]));
    for (const opened of sources) await opened.close();
  });

  it("of 6 bits hold lm_head and the embedding, as computed", async () => {
    const untied = join(root, "untied");
    const { makeUntied } = (await import(new URL("../../scripts/readers/untied.js", import.meta.url).href)) as { makeUntied: (from: string, to: string) => void };
    makeUntied(source, untied);
    const { linears } = await made("tables", { source: untied, embeddings: 6, lmHead: 6, method: "rtn" });
    const sources = await Promise.all([untied, join(root, "tables")].map((folder) => openFolder(folder)));
    const [original, model] = await Promise.all(sources.map((opened) => openModel(opened)));
    for (const { name, quantized } of linears.slice(-2)) {
      expect(quantized).toMatchObject({ bits: 6, groupSize: 16 });
      expect(model.checkpoint.tensors.get(`${name}.blocks`)!.shape).toEqual([1024, 1, 210]);
      const [before, after] = await Promise.all([original.load(`${name}.weight`), model.load(`${name}.weight`)]);
      const error = before.reduce((sum, w, i) => sum + (w - after[i]) ** 2, 0) / before.reduce((sum, w) => sum + w * w, 0);
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThan(1e-3);
    }
    for (const opened of sources) await opened.close();
    await expect(planQuantize({ source: DEMO_MODEL, format: "gguf", embeddings: 6 })).rejects.toThrow("its 128 input channels are not a multiple of 256, the block of Q6_K");
  });

  it("calibrated lose less than Q4_0 of as many bits", async () => {
    const divergence = async (name: string, settings: Partial<QuantizeOptions>): Promise<number> => {
      await made(name, { quality: "fast", refine: 0, awq: false, ...settings });
      const { against } = await evaluate({ model: join(root, name), against: source, text: new URL("../fixtures/held-out.txt", import.meta.url).pathname, sequenceLength: 128, maxTokens: 1024 });
      return against!.klDivergence;
    };
    expect(await divergence("k", { kQuant: true })).toBeLessThan(0.9 * (await divergence("plain", {})));
  });

  it("are told of beforehand, and are GGUF's", async () => {
    const { plan: { notices }, shards } = await planQuantize({ source, format: "gguf", kQuant: true, bitsFor: [{ pattern: "*.v_proj", bits: 8 }] });
    expect(notices).toContain("Q4_1 instead of Q4_K: model.layers.*.self_attn.o_proj (4), because their input channels fill no whole super-blocks of 256");
    expect(shards.map(({ file }) => file)).toEqual(["model-Q4_K.gguf"]);
    // As many as Q4_K and Q4_1 take, not as the 8 bits beside them would in super-blocks.
    await expect(planQuantize({ source, format: "gguf", kQuant: true, targetBits: 4.4 })).rejects.toThrow("these linears take at least 4.53 bits a weight in the gguf format");
    await expect(planQuantize({ source, format: "gptq", kQuant: true })).rejects.toThrow("K-quants are for the format gguf by itself");
    await expect(planQuantize({ source, format: "gguf", kQuant: true, groupSize: 64 })).rejects.toThrow("group size is 64; K-quants have groups of 32");
  });
});
