import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { survey, type SurveyResult } from "shardsmith";
import { conversationsAndTextsOf } from "#src/calibration/documents.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { decoderOf } from "#src/model/decoder-of.js";
import { runStages } from "#src/model/forward.js";
import { finalNormStage, logitsGraph } from "#src/model/head.js";
import { weightsOf } from "#src/model/weights.js";
import { embedBatch } from "#src/pipeline/batches.js";
import { calibrationOf } from "#src/pipeline/calibrate.js";
import { resolveSettings } from "#src/pipeline/options.js";
import { inputHessian, roundSlab } from "#src/quantize/rounding-errors.js";
import { openCheckpoint } from "#src/source/checkpoint.js";
import { openFolder } from "#src/source/folder.js";
import { builtinCalibrationText } from "#src/source/text-files.js";
import { plainLinearAlgebra } from "../engine/plain-linear-algebra.js";
import { DEMO_MODEL, shardsmith } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "survey-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });
const FEW = { source: DEMO_MODEL, samples: 4, sequenceLength: 64, groupSize: 32, threads: 1 } as const;

const SLOW = 120_000;
let found: SurveyResult;
beforeAll(async () => { found = await survey({ ...FEW, targetBits: 4.9 }); }, SLOW);

describe("a survey", () => {
  it("covers every linear once, with its siblings", () => {
    expect(found.groups.map(({ layer, stage, linears }) => [layer, stage, linears.length])).toEqual(
      [0, 1, 2, 3].flatMap((layer) => [[layer, "attention in", 3], [layer, "attention out", 1], [layer, "mlp in", 2], [layer, "mlp out", 1]]),
    );
    expect(found.tokens).toBe(256);
  });

  it("finds errors that fall with bits, and effects that are there", () => {
    for (const { linears, divergence, errors } of found.groups) {
      expect(divergence).toBeGreaterThan(0);
      expect(errors.map(({ bits }) => bits)).toEqual([2, 3, 4, 8]);
      expect(errors[1].ratio).toBe(1);
      for (const all of [errors.map(({ ratio }) => ratio), ...linears.map((linear) => linear.errors.map(({ relativeError }) => relativeError))]) {
        expect(all[0]).toBeGreaterThan(all[1]);
        expect(all[1]).toBeGreaterThan(all[2]);
        expect(all[2]).toBeGreaterThan(50 * all[3]);
      }
    }
  });

  it("foretells what rounding a group alone does to the predictions: as computed here at length", async () => {
    const source = await openFolder(DEMO_MODEL);
    const engine = await createOnnxEngine({});
    const checkpoint = await openCheckpoint(source);
    const decoder = decoderOf(checkpoint.config, "config.json");
    const { set } = await calibrationOf(
      async () => ({ texts: [{ documents: conversationsAndTextsOf(await builtinCalibrationText()), origin: "" }] }), checkpoint, decoder, resolveSettings(FEW),
    );
    const embedded = (sequences: readonly Uint32Array[]) => embedBatch((tensor, rows) => checkpoint.readRows(tensor, rows), decoder, sequences);
    const read = (name: string) => checkpoint.readFloat32(name);
    const layers = Array.from({ length: decoder.layers }, (_, layer) => decoder.stages(layer, FEW.sequenceLength));
    // XᵀX of what q, k and v of the first layer take.
    const [first] = layers[0];
    const graph = await engine.prepare(first.graph, await weightsOf(first, read));
    const x = (await graph.run({ h: await embedded(set.sequences) })).outputs["x"];
    const gram = new Float32Array(x.width ** 2);
    for (let t = 0; t < x.data.length; t += x.width) {
      for (let i = 0; i < x.width; i += 1) for (let j = 0; j < x.width; j += 1) gram[i * x.width + j] += x.data[t + i] * x.data[t + j];
    }
    const rounded = new Map<string, Float32Array<ArrayBuffer>>();
    for (const { name, outFeatures: rows, inFeatures: cols } of first.linears) {
      const scheme = { bits: 3, groupSize: 32, symmetric: true, scaleDtype: "F16" } as const;
      const { result } = await roundSlab(plainLinearAlgebra, { rows, cols, data: await read(`${name}.weight`) }, [scheme], inputHessian(gram, x.data.length / x.width), 0);
      rounded.set(`${name}.weight`, result.rounded);
    }
    const logits = async (load: typeof read): Promise<Float32Array[]> => {
      let h = await embedded(set.sequences.slice(0, 2));
      for (const stages of [...layers, [finalNormStage(decoder)]]) for await (const left of runStages(engine, stages, load, [h])) h = left;
      const head = await engine.prepare(logitsGraph(decoder.hiddenSize, decoder.vocabSize), new Map([["lm_head", await read(decoder.lmHead.tensor)]]));
      const { data } = (await head.run({ x: h })).outputs["logits"];
      return Array.from({ length: h.tokens * h.batch }, (_, i) => data.subarray(i * decoder.vocabSize, (i + 1) * decoder.vocabSize));
    };
    const logSoftmax = (row: Float32Array): number[] => {
      const sum = row.reduce((total, value) => total + Math.exp(value), 0);
      return [...row].map((value) => value - Math.log(sum));
    };
    const clean = await logits(read);
    const changed = await logits((name) => (rounded.has(name) ? Promise.resolve(rounded.get(name)!.slice()) : read(name)));
    const divergences = clean.map((row, i) => {
      const [p, q] = [logSoftmax(row), logSoftmax(changed[i])];
      return p.reduce((sum, log, token) => sum + Math.exp(log) * (log - q[token]), 0);
    });
    const mean = divergences.reduce((a, b) => a + b, 0) / divergences.length;
    expect(found.positions).toBe(divergences.length);
    expect(found.groups[0].divergence / mean).toBeCloseTo(1, 2);
    await engine.close();
    await source.close();
  }, SLOW);

  it("is the same twice, and with no memory for hidden states", async () => {
    expect(await survey({ ...FEW, targetBits: 4.9, memory: 0 })).toEqual(found);
  }, SLOW);

  it("sees a loud channel and a heavy-tailed row", async () => {
    const model = join(root, "loud");
    cpSync(DEMO_MODEL, model, { recursive: true });
    const bytes = readFileSync(join(model, "model.safetensors"));
    const header = 8 + Number(bytes.readBigUInt64LE(0));
    const entries = JSON.parse(bytes.subarray(8, header).toString()) as Record<string, { data_offsets: [number, number] }>;
    // bfloat16: a norm's weight of 200 for one channel, and a weight of 50 in one row.
    bytes.writeUInt16LE(0x4348, header + entries["model.layers.1.input_layernorm.weight"].data_offsets[0] + 2 * 7);
    bytes.writeUInt16LE(0x4248, header + entries["model.layers.2.mlp.up_proj.weight"].data_offsets[0] + 2 * 128 * 5);
    writeFileSync(join(model, "model.safetensors"), bytes);
    const seen = await survey({ ...FEW, source: model });
    expect(seen.groups[4].outliers[0]).toMatchObject({ channel: 7 });
    expect(seen.groups[4].outliers[0].factor).toBeGreaterThan(50);
    const linear = seen.groups[10].linears[1];
    expect(linear.largestKurtosis).toBeGreaterThan(60);
    expect(linear.heavyRows).toBe(found.groups[10].linears[1].heavyRows + 1);
    expect(seen).not.toHaveProperty("choice");
  }, SLOW);
});

it("prints a report for people", async () => {
  const { code, stdout } = await shardsmith(["survey", DEMO_MODEL, "--samples", "2", "--sequence-length", "64", "--target-bits", "5", "--threads", "1"]);
  expect(code).toBe(0);
  expect(stdout.split("\n")[0]).toMatch(/^layer, input +linears +KL at 3 bits +of all +error at 3 +at 4 +at 8 +outlier channels +heavy rows +bits$/);
  expect(stdout).toContain("and 4 more (--all)");
  expect(stdout).toMatch(/Chosen: .*: [45]\.\d{3} bits a weight/);
});
