import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { evaluate, inspect, quantize } from "shardsmith";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { openModel } from "#src/pipeline/model.js";
import { openFolder } from "#src/source/folder.js";
import { DEMO_MODEL } from "../cli/cli.js";
import { openSession, runOnnx } from "../formats/onnx/folder.js";
import { logitsOf, type Values } from "../model/golden.js";

const root = mkdtempSync(join(tmpdir(), "onnx-"));
const UNTIED = join(root, "untied");
beforeAll(async () => {
  const { makeUntied } = (await import(new URL("../../scripts/readers/untied.js", import.meta.url).href)) as { makeUntied: (from: string, to: string) => void };
  makeUntied(DEMO_MODEL, UNTIED);
});
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

const FEW = { samples: 4, sequenceLength: 64, groupSize: 32, quality: "fast", refine: 0, awq: false, format: "onnx", threads: 1, device: "cpu" } as const;

it("is what ONNX Runtime and Shardsmith compute the same with", async () => {
  const output = join(root, "out");
  await quantize({ ...FEW, source: UNTIED, output, symmetric: false, lmHead: 8, keep: ["*.0.self_attn.v_proj"] });
  expect(readdirSync(output).sort()).toEqual(["README.md", "config.json", "generation_config.json", "onnx", "shardsmith.json", "tokenizer.json", "tokenizer_config.json"]);
  expect(JSON.parse(readFileSync(join(output, "config.json"), "utf8"))).toMatchObject({ "transformers.js_config": { dtype: "q4", use_external_data_format: 1 } });
  // What shares its input with a linear that is kept is kept as well.
  expect((await inspect(output)).quantization).toMatchObject({ format: "onnx", bits: 4, groupSize: 32, symmetric: false, linears: 26, mix: [{ bits: 8, linears: 1 }, { bits: 4, linears: 25 }] });

  const shapes = new Map((await inspect(UNTIED)).tensors.map(({ name, shape }) => [name, shape]));
  const source = await openFolder(output);
  const engine = await createOnnxEngine({ threads: 1 });
  const session = await openSession(join(output, "onnx/model_q4.onnx"));
  try {
    const { decoder, load } = await openModel(source);
    const names = [decoder.embedding.tensor, ...Array.from({ length: decoder.layers }, (_, layer) => decoder.tensorsOf(layer)).flat(), decoder.finalNorm.tensor, decoder.lmHead.tensor];
    const weights = new Map<string, Values>();
    for (const name of names) weights.set(name, { shape: shapes.get(name)!, values: await load(name) });
    const tokens = [Array.from({ length: 40 }, (_, i) => (37 * i * i + 5) % decoder.vocabSize)];
    const ours = await logitsOf(engine, decoder, weights, tokens);
    const { logits } = await runOnnx(session, decoder, tokens);
    const largest = ours.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(ours.data.reduce((most, value, i) => Math.max(most, Math.abs(value - logits[i])), 0) / largest).toBeLessThan(1e-5);
  } finally {
    await session.release();
    await engine.close();
    await source.close();
  }
  const { klDivergence } = (await evaluate({ model: output, against: UNTIED, maxTokens: 256, sequenceLength: 128 })).against!;
  expect(klDivergence).toBeLessThan(0.05);
});

it("is not read where its files are damaged", async () => {
  const output = join(root, "damaged");
  await quantize({ ...FEW, source: DEMO_MODEL, output, method: "rtn" });
  const data = join(output, "onnx/model_q4.onnx_data");
  const { length } = readFileSync(data);
  truncateSync(data, length - 1);
  await expect(inspect(output)).rejects.toThrow(`${output}/onnx/model_q4.onnx_data: tensor "model.layers.3.mlp.down_proj.weight_scales" ends at byte ${length}, but the file has only ${length - 1}`);
  await expect(evaluate({ model: output, maxTokens: 64 })).rejects.toThrow(`ends at byte ${length}`);

  rmSync(data);
  await expect(inspect(output)).rejects.toThrow(`${output}/onnx/model_q4.onnx: weight "model.embed_tokens.weight" lies in onnx/model_q4.onnx_data, which is missing`);
  writeFileSync(join(output, "onnx/model_q4.onnx"), "not a graph");
  await expect(inspect(output)).rejects.toThrow(`${output}/onnx/model_q4.onnx is no ONNX model`);
});
