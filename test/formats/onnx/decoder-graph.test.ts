import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { InferenceSession } from "onnxruntime-node";
import type { Engine } from "#src/engine/engine.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import { FIXTURES, hasStories, logitsOf, readJson, STORIES } from "../../model/golden.js";
import { openSession, runOnnx, writeOnnx, type OnnxFolder, type Past, type SchemeOf } from "./folder.js";

const DEMO = new URL("../../fixtures/demo-model/", import.meta.url).pathname;
const FAMILIES = ["llama", "llama-biases", "mistral", "qwen2", "qwen3", "gemma3-text"];

let engine: Engine;
beforeAll(async () => {
  engine = await createOnnxEngine({ threads: 1 });
});
afterAll(() => engine.close());

const PLAIN: QuantScheme = { bits: 4, groupSize: 16, symmetric: true, scaleDtype: "F32" };
const grid = (change: Partial<QuantScheme> = {}): SchemeOf => ({ name }) => (name === "model.embed_tokens" ? undefined : { ...PLAIN, ...change });
const sequences = (count: number, length: number, vocabulary: number): number[][] =>
  Array.from({ length: count }, (_, row) => Array.from({ length }, (_, i) => (7 * i * i + 31 * row + 3) % vocabulary));

/** Largest difference, relative to the largest logit. */
function difference(theirs: ArrayLike<number>, ours: ArrayLike<number>): number {
  expect(theirs.length).toBe(ours.length);
  let worst = 0, largest = 0;
  for (let i = 0; i < ours.length; i++) {
    worst = Math.max(worst, Math.abs(theirs[i] - ours[i]));
    largest = Math.max(largest, Math.abs(ours[i]));
  }
  return worst / largest;
}

/** Writes a model, does something with it in ONNX Runtime, and cleans up. */
async function withModel(source: string, schemeOf: SchemeOf, fields: Record<string, unknown>, use: (session: InferenceSession, written: OnnxFolder) => Promise<void>): Promise<void> {
  const written = await writeOnnx(source, schemeOf, fields);
  const session = await openSession(written.graph);
  try {
    await use(session, written);
  } finally {
    await session.release();
    rmSync(written.folder, { recursive: true });
  }
}

async function expectOurLogits(source: string, schemeOf: SchemeOf, fields: Record<string, unknown> = {}): Promise<void> {
  await withModel(source, schemeOf, fields, async (session, { decoder, weights, linears }) => {
    expect(linears.size).toBeGreaterThan(0);
    const tokens = sequences(2, Math.min(24, decoder.maxPositions), decoder.vocabSize);
    const { logits } = await runOnnx(session, decoder, tokens);
    const { data } = await logitsOf(engine, decoder, weights, tokens);
    expect(difference(logits, data)).toBeLessThan(1e-5);
  });
}

describe.each(FAMILIES)("%s: ONNX Runtime's logits are ours", (family) => {
  const folder = `${FIXTURES}${family}/`;
  const variants = { saved: {}, ...(readJson(`${folder}variants.json`) as Record<string, Record<string, unknown>>) };
  const usable = Object.entries(variants).filter(([, fields]) => !JSON.stringify(fields).includes("longrope"));
  it.each(usable)("%s", (_, fields) => expectOurLogits(folder, grid(), fields));
});

it.each<readonly [string, SchemeOf]>([
  ["8 bits", grid({ bits: 8, groupSize: 32 })],
  ["4 bits with zero points", grid({ groupSize: 64, symmetric: false })],
  ["8 bits with zero points, one scale a row", (linear) => grid({ bits: 8, groupSize: linear.inFeatures, symmetric: false })(linear)],
  ["4 and 8 bits and plain linears", ({ name, inFeatures }) => (/v_proj|embed/.test(name) ? undefined : { bits: name.includes("down") ? 8 : 4, groupSize: Math.min(128, inFeatures), symmetric: true, scaleDtype: "F32" })],
])("the demo model with %s has our logits", (_, schemeOf) => expectOurLogits(DEMO, schemeOf));

it.skipIf(!hasStories)("stories260K, whose mlp.down_proj cannot be packed, has our logits", () => expectOurLogits(STORIES, grid({ groupSize: 64 })));

it.each([
  ["a tied one, which is lm_head too", DEMO, 4, false], ["a tied one that is scaled", `${FIXTURES}gemma3-text/`, 8, true],
  ["one beside an lm_head", `${FIXTURES}llama/`, 8, false], ["one of symmetric groups", `${FIXTURES}llama/`, 4, true],
] as const)("takes a quantized embedding: %s", (_, source, bits, symmetric) => expectOurLogits(source, ({ name }) => ({ ...PLAIN, ...(name === "model.embed_tokens" && { bits, symmetric }) })));

it.each([3, 1])("takes caps on logits: %d", (cap) => expectOurLogits(`${FIXTURES}gemma3-text/`, grid(), { final_logit_softcapping: cap }));

// The padded heads of llama-biases and gemma3-text, the windows of mistral and gemma3-text, and real heads.
describe.each([`${FIXTURES}mistral/`, `${FIXTURES}llama-biases/`, `${FIXTURES}gemma3-text/`, DEMO])("%s", (source) => {
  it("gives token by token what it gives all at once", () => withModel(source, grid(), {}, async (session, { decoder }) => {
    const tokens = sequences(2, 20, decoder.vocabSize);
    const whole = await runOnnx(session, decoder, tokens);
    let past: Past | undefined;
    for (let i = 0; i < 20; i++) {
      const one = await runOnnx(session, decoder, tokens.map((row) => [row[i]]), past);
      past = one.past;
      const wanted = tokens.flatMap((_, row) => [...whole.logits.subarray((row * 20 + i) * decoder.vocabSize, (row * 20 + i + 1) * decoder.vocabSize)]);
      expect(difference(one.logits, wanted)).toBeLessThan(1e-5);
    }
    const { kvHeads, headDim } = decoder.layer(0);
    expect(past!["past_key_values.0.key"].dims).toEqual([2, kvHeads, 20, headDim]);
  }));

  it("gives a sequence that is padded on the left what it gives it alone, and so goes on", () => withModel(source, grid(), {}, async (session, { decoder }) => {
    const [long, short] = [sequences(1, 14, decoder.vocabSize)[0], sequences(1, 9, decoder.vocabSize)[0]];
    const width = decoder.vocabSize;
    const alone = await runOnnx(session, decoder, [short]);
    const mask = [Array<number>(14).fill(1), [...Array<number>(5).fill(0), ...Array<number>(9).fill(1)]];
    const both = await runOnnx(session, decoder, [long, [0, 0, 0, 0, 0, ...short]], undefined, mask);
    expect(difference(both.logits.subarray((14 + 5) * width), alone.logits)).toBeLessThan(1e-5);

    const next = await runOnnx(session, decoder, [[1], [2]], both.past, mask.map((row) => [...row, 1]));
    const nextAlone = await runOnnx(session, decoder, [[2]], alone.past);
    expect(difference(next.logits.subarray(width), nextAlone.logits)).toBeLessThan(1e-5);
  }));
});
