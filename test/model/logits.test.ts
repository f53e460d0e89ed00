import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Engine } from "#src/engine/engine.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { decoderOf } from "#src/model/decoder-of.js";
import { changed, expectGoldenLogits, FIXTURES, hasStories, logitsOf, readJson, readTensors, STORIES } from "./golden.js";

let engine: Engine;
beforeAll(async () => {
  engine = await createOnnxEngine({ threads: 2 });
});
afterAll(() => engine.close());

describe.each(["llama", "llama-biases", "mistral", "qwen2", "qwen3", "gemma3-text"])("%s: logits agree with transformers'", (family) => {
  const folder = `${FIXTURES}${family}/`;
  const variants = { saved: {}, ...(readJson(`${folder}variants.json`) as Record<string, Record<string, unknown>>) };
  it.each(Object.entries(variants))("%s", async (variant, fields) => {
    const config = changed(readJson(`${folder}config.json`), fields);
    await expectGoldenLogits(engine, config, readTensors(`${folder}model.safetensors`), readTensors(`${folder}golden.safetensors`), variant);
  });
});

it.skipIf(!hasStories)("stories260K: logits agree with transformers'", async () => {
  const golden = readTensors(`${FIXTURES}stories260K/golden.safetensors`);
  await expectGoldenLogits(engine, readJson(`${STORIES}config.json`), readTensors(`${STORIES}model.safetensors`), golden, "saved");
});

it("a sequence shorter than the run's has the same logits", async () => {
  const decoder = decoderOf(readJson(`${FIXTURES}mistral/config.json`), "config.json");
  const tensors = readTensors(`${FIXTURES}mistral/model.safetensors`);
  const sequence = Array.from({ length: 12 }, (_, i) => 5 * i);
  const alone = await logitsOf(engine, decoder, tensors, [sequence]);
  const beside = await logitsOf(engine, decoder, tensors, [sequence], 40);
  expect(beside.data).toEqual(alone.data);
});
