import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { evaluate, quantize, type QuantizeOptions } from "shardsmith";
import { DEMO_MODEL } from "../cli/cli.js";
import { openWithNpm } from "../safetensors/files.js";

const root = mkdtempSync(join(tmpdir(), "quality-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });
const HELD_OUT = fileURLToPath(new URL("../fixtures/held-out.txt", import.meta.url));
const STORIES = fileURLToPath(new URL("../../../shared/models/stories260K", import.meta.url));
const STORIES_TEXT = fileURLToPath(new URL("../../../shared/text/tinystories.txt", import.meta.url));

const ALL = { source: DEMO_MODEL, samples: 16, sequenceLength: 256, quality: "fast", refine: 0, awq: false, threads: 1, device: "cpu" } as const;
const made = new Map<string, Promise<string>>();
/** What takes the most time, sweeps and the search for scales of channels, has tests of its own. One of all that are made alike. */
const make = (options: Partial<QuantizeOptions>): Promise<string> => {
  const key = JSON.stringify(Object.entries(options).sort());
  const output = join(root, String(made.size));
  const one = made.get(key) ?? quantize({ ...ALL, output, ...options }).then(() => output);
  made.set(key, one);
  return one;
};
const divergence = async (options: Partial<QuantizeOptions>, maxTokens = 2048): Promise<number> =>
  (await evaluate({ model: await make(options), against: DEMO_MODEL, text: HELD_OUT, maxTokens, threads: 1 })).against!.klDivergence;

describe("the demo model at 3 bits, on text that nothing was fitted to", () => {
  it("is nearer to the original by calibration than by rounding, with a scale search than without", async () => {
    const rounded = await divergence({ method: "rtn", bits: 3, groupSize: 32, search: false });
    const plain = await divergence({ bits: 3, groupSize: 32, search: false });
    const searched = await divergence({ bits: 3, groupSize: 32 });
    expect(plain).toBeLessThan(0.8 * rounded);
    expect(searched).toBeLessThan(plain);
  });

  it("is nearer to the original when its linears are aimed at what that computes", async () => {
    const [plain, retargeted] = [await divergence({ bits: 3, groupSize: 32 }), await divergence({ bits: 3, groupSize: 32, retarget: true })];
    expect(retargeted).toBeLessThan(0.85 * plain);
  });

  it("is nearer the more bits it has", async () => {
    const all = [];
    for (const bits of [2, 3, 4, 8] as const) all.push(await divergence({ bits, groupSize: 32 }));
    expect(all).toEqual([...all].sort((a, b) => b - a));
    expect(all[3]).toBeLessThan(1e-3);
  });
});

it("gives the same bytes whether hidden states stay in memory or go to a file", async () => {
  const bytes = async (options: Partial<QuantizeOptions>): Promise<Buffer> => readFileSync(join(await make({ bits: 3, groupSize: 32, ...options }), "model.safetensors"));
  const held = await bytes({ retarget: true });
  // The second size holds some batches of one stream and not the other's.
  for (const memory of [0, 1.5e6]) expect((await bytes({ retarget: true, memory })).equals(held)).toBe(true);
  expect((await bytes({})).equals(held)).toBe(false);
});

it("means the same in every format and order that hold the same grid", async () => {
  // Tight for one scale a row, and so on more text.
  const [common, all] = [{ bits: 4, groupSize: 32, samples: 32 } as const, 5000];
  const gptq = await divergence(common, all);
  // Scales in bfloat16 instead of float16, and another order: other codes, but no other quality.
  for (const options of [{ format: "compressed-tensors" }, { format: "compressed-tensors", symmetric: false }, { symmetric: false }, { order: "act" }, { order: "natural" }, { groupSize: -1 }] as const) {
    const other = await divergence({ ...common, ...options }, all);
    expect(other).toBeLessThan(2 * gptq);
    expect(other).toBeGreaterThan(gptq / 3);
  }
});

it("is read by the npm package safetensors, an independent reader", async () => {
  const output = await make({ method: "rtn", maxShardSize: 300_000 });
  const index = JSON.parse(readFileSync(join(output, "model.safetensors.index.json"), "utf8")) as { metadata: { total_size: number }; weight_map: Record<string, string> };
  const found = new Map<string, string>();
  for (const file of new Set(Object.values(index.weight_map))) {
    const { metadata } = openWithNpm(Uint8Array.from(readFileSync(join(output, file))));
    for (const name of metadata.keys()) found.set(name, file);
  }
  expect(Object.fromEntries([...found].sort())).toEqual(Object.fromEntries(Object.entries(index.weight_map).sort()));
  expect(new Set(found.values()).size).toBeGreaterThan(2);
});

describe.skipIf(!existsSync(STORIES) || !existsSync(STORIES_TEXT))("stories260K (needs ../shared)", () => {
  it("keeps what no group size fits, and reports it with the reason", async () => {
    const output = join(root, "stories");
    const { linears, notices } = await quantize({ source: STORIES, output, samples: 8, sequenceLength: 128, quality: "fast" });
    expect(linears).toHaveLength(35);
    const kept = linears.filter(({ quantized }) => quantized === undefined);
    expect(new Set(kept.map(({ name }) => name.replace(/^.*\./, "")))).toEqual(new Set(["gate_proj", "up_proj", "down_proj"]));
    expect(kept.find(({ name }) => name.endsWith("down_proj"))!.note).toBe("its 172 input channels are not a multiple of the group size 64");
    expect(notices).toContain("left as they are: model.layers.*.mlp.down_proj (5), because its 172 input channels are not a multiple of the group size 64");
    expect((await evaluate({ model: output, against: STORIES, text: HELD_OUT })).against!.klDivergence).toBeLessThan(0.2);
  });

  it("has the perplexity that transformers 5.24 finds on the same 40 stories", async () => {
    const stories = readFileSync(STORIES_TEXT, "utf8").split("<|endoftext|>").map((story) => story.trim()).filter((story) => story.length > 200).slice(0, 40);
    const text = join(root, "stories.jsonl");
    writeFileSync(text, stories.map((story) => JSON.stringify({ text: story })).join("\n"));
    const { tokens, perplexity } = await evaluate({ model: STORIES, text, sequenceLength: 512 });
    expect(tokens).toBe(12_571);
    // float32, each story by itself: 3.4732306
    expect(perplexity).toBeCloseTo(3.4732306, 4);
  });
});
