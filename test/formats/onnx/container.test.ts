import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ModelFacts } from "#src/formats/format.js";
import { container } from "#src/formats/onnx/container.js";
import { dataFiles } from "#src/formats/onnx/data-files.js";
import { decoderOf } from "#src/model/decoder-of.js";
import type { TensorSpec } from "#src/safetensors/tensor.js";
import { parseHeader } from "#src/safetensors/header.js";
import { FIXTURES, readJson } from "../../model/golden.js";
import { writeOnnx } from "./folder.js";

const LLAMA = `${FIXTURES}llama/`;

function facts(fields: Record<string, unknown> = {}): ModelFacts {
  const config = { ...(readJson(`${LLAMA}config.json`) as object), ...fields };
  const file = new Uint8Array(readFileSync(`${LLAMA}model.safetensors`));
  return { config, decoder: decoderOf(config, "config.json"), tensors: parseHeader(file, file.length, "llama").tensors };
}

describe("a model", () => {
  it("is taken if its architecture is known", () => {
    expect(container.refusesModel(facts())).toBeUndefined();
    expect(container.refusesModel({ ...facts(), decoder: undefined })).toBe("onnx files hold what a model computes, and so need an architecture that Shardsmith knows");
  });

  it("is refused if its rotary embedding has two sets of frequencies", () => {
    const factors = [1, 1, 1, 1];
    const long = { rope_parameters: { rope_type: "longrope", rope_theta: 10_000, factor: 2, short_factor: factors, long_factor: factors, original_max_position_embeddings: 32 } };
    expect(container.refusesModel(facts(long))).toBe("longrope has one set of frequencies for short sequences and one for long ones; an onnx file holds one");
  });

  it("is refused if a tensor that it computes with has no floats", () => {
    const { tensors, ...rest } = facts();
    const name = "model.norm.weight";
    const changed = new Map([...tensors, [name, { ...tensors.get(name)!, dtype: "F8_E4M3" as const }]]);
    expect(container.refusesModel({ ...rest, tensors: changed })).toBe("its tensor model.norm.weight is F8_E4M3, from which ONNX Runtime computes no float32");
  });

  it("leaves out tensors that its graph has no use for, and keeps the others as they are", () => {
    const spec: TensorSpec = { name: "model.layers.0.self_attn.rotary_emb.inv_freq", dtype: "F32", shape: [4] };
    expect(container.stored(spec, facts())).toBeUndefined();
    const norm = facts().tensors.get("model.norm.weight")!;
    const stored = container.stored(norm, facts())!;
    expect(stored).toMatchObject({ spec: norm, unit: 2 });
    expect(stored.convert(Uint8Array.of(1, 2))).toEqual(Uint8Array.of(1, 2));
  });
});

it.each([[4, "q4", "model_q4"], [8, "q8", "model_quantized"]] as const)("%d bits bear the name by which transformers.js asks for %s", async (bits, dtype, name) => {
  const { folder, configKeys } = await writeOnnx(LLAMA, () => ({ bits, groupSize: 16, symmetric: true, scaleDtype: "F32" }));
  expect(configKeys).toEqual({ "transformers.js_config": { dtype, use_external_data_format: 1 } });
  // Tables for 64 positions, 4 frequencies, cosines and sines, and what is stored behind them.
  expect(statSync(join(folder, `onnx/${name}.onnx_data`)).size).toBeGreaterThan(64 * 4 * 4 * 2);
  expect(statSync(join(folder, `onnx/${name}.onnx`)).size).toBeLessThan(40_000);
  rmSync(folder, { recursive: true });
});

describe("data files", () => {
  const spec = (name: string, size: number): TensorSpec => ({ name, dtype: "U8", shape: [size] });

  it("have what they begin with, and then the tensors, small ones at multiples of 64 and large ones of 4096 bytes", () => {
    const [file, ...others] = dataFiles("m.onnx_data", { size: 10, bytes: () => new Uint8Array(10) }, [spec("a", 3), spec("b", 1 << 20), spec("c", 1)]);
    expect(others).toEqual([]);
    expect(file.header).toHaveLength(10);
    expect(file.tensors.map(({ start, end }) => [start, end])).toEqual([[64, 67], [4096, 4096 + (1 << 20)], [4096 + (1 << 20), 4097 + (1 << 20)]]);
    expect(file.size).toBe(4097 + (1 << 20));
  });

  it("are as many as the largest that browsers take demands, named as transformers.js counts them", () => {
    const files = dataFiles("m.onnx_data", { size: 100, bytes: () => new Uint8Array(100) }, [spec("a", 28), spec("b", 300), spec("c", 64), spec("d", 128)], 256);
    expect(files.map(({ file, size, tensors }) => [file, size, tensors.map(({ name }) => name)])).toEqual([
      ["m.onnx_data", 156, ["a"]], ["m.onnx_data_1", 300, ["b"]], ["m.onnx_data_2", 192, ["c", "d"]],
    ]);
    expect(files.slice(1).map(({ header }) => header.length)).toEqual([0, 0]);
  });
});
