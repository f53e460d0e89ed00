import { readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { readOnnx } from "#src/formats/onnx/read.js";
import { fieldsOf } from "#src/onnx/fields.js";
import { encodeModel, type OnnxWeight } from "#src/onnx/model.js";
import type { Tensor } from "#src/safetensors/tensor.js";
import { parseHeader } from "#src/safetensors/header.js";
import { legible } from "../random-linear.js";
import { FIXTURES } from "../../model/golden.js";
import { writeOnnx, type OnnxFolder } from "./folder.js";

// Gemma's norms are stored without the 1 that its graph adds.
const SOURCE = `${FIXTURES}gemma3-text/`;
let written: OnnxFolder;
let data: Uint8Array<ArrayBuffer>;
beforeAll(async () => {
  written = await writeOnnx(SOURCE, ({ name }) => ({ bits: name.includes("down") ? 8 : 4, groupSize: 16, symmetric: !name.includes("up"), scaleDtype: "F32" }));
  data = new Uint8Array(readFileSync(`${written.graph}_data`));
});
afterAll(() => rmSync(written.folder, { recursive: true }));

it("finds what was written: quantized linears, and the source's other tensors to the bit", () => {
  const file = `onnx/${basename(written.graph)}_data`;
  const { tensors, packed } = readOnnx(readFileSync(written.graph), "onnx/model_q4.onnx", new Map([[file, data.length]]), "folder");
  const source = new Uint8Array(readFileSync(join(SOURCE, "model.safetensors")));
  for (const { name, dtype, shape, start, end } of parseHeader(source, source.length, "source").tensors.values()) {
    const module = name.replace(/\.weight$/, "");
    const linear = written.linears.get(module);
    if (linear === undefined) {
      const found = tensors.get(name)!;
      expect(found).toMatchObject({ name, dtype, shape, file });
      expect(data.slice(found.start, found.end)).toEqual(source.slice(start, end));
      continue;
    }
    const parts = [...tensors.values()].filter((tensor) => tensor.name.startsWith(`${module}.weight_`));
    const bySuffix = new Map(parts.map((part): [string, Tensor] => [part.name.slice(module.length + 1), { ...part, bytes: data.slice(part.start, part.end) }]));
    expect([...packed!.suffixes, ...packed!.optionalSuffixes]).toEqual(expect.arrayContaining([...bySuffix.keys()]));
    expect(packed!.bitsOf(new Map(parts.map((part) => [part.name.slice(module.length + 1), part.shape])))).toBe(linear.scheme.bits);
    expect(legible(packed!.unpack(module, bySuffix))).toEqual(legible(linear));
  }
  expect([...tensors.keys()].filter((name) => name.startsWith("rotary"))).toEqual([]);
  expect(packed).toMatchObject({ format: "onnx", bits: 4, groupSize: 16, symmetric: false });
});

const weight = (change: Partial<OnnxWeight> = {}): OnnxWeight => ({ name: "model.norm.weight", type: "float32", shape: [2, 3], file: "m.onnx_data", start: 64, end: 88, ...change });
const graph = (weights: readonly OnnxWeight[], producer = "shardsmith:0"): Uint8Array => encodeModel({ inputs: [], outputs: [], nodes: [], weights, producer });
const read = (model: Uint8Array) => readOnnx(model, "onnx/m.onnx", new Map([["onnx/m.onnx_data", 88]]), "folder");

it("takes a folder with nothing quantized", () => {
  const { tensors, packed } = read(graph([weight()]));
  expect([...tensors.values()]).toEqual([{ name: "model.norm.weight", dtype: "F32", shape: [2, 3], file: "onnx/m.onnx_data", start: 64, end: 88 }]);
  expect(packed).toBeUndefined();
});

it.each<readonly [string, Uint8Array, string]>([
  ["another program's", graph([weight()], "pytorch"), "folder/onnx/m.onnx was not written by Shardsmith, and so cannot be read: its weights may be named and laid out in any way"],
  ["twice the same name", graph([weight(), weight()]), 'folder/onnx/m.onnx: two weights are named "model.norm.weight"'],
  ["a missing file", graph([weight({ file: "n.onnx_data" })]), 'folder/onnx/m.onnx: weight "model.norm.weight" lies in onnx/n.onnx_data, which is missing'],
  ["a file cut short", graph([weight({ start: 65, end: 89 })]), 'folder/onnx/m.onnx_data: tensor "model.norm.weight" ends at byte 89, but the file has only 88'],
  ["a way out of the folder", graph([weight({ file: "../config.json" })]), 'folder/onnx/m.onnx: weight "model.norm.weight" lies in "../config.json", which is no file beside the model'],
  ["a shape of another size", graph([weight({ shape: [3, 3] })]), 'folder/onnx/m.onnx: weight "model.norm.weight" is float32 of shape [3,3], which takes 36 bytes, but 24 are stored'],
  ["an element type that has no dtype", graph([weight({ type: "int64", shape: [3] })]), 'folder/onnx/m.onnx: weight "model.norm.weight" has the element type int64, which Shardsmith does not write'],
  ["a negative length", graph([weight({ start: 64, end: 40 })]), 'folder/onnx/m.onnx: weight "model.norm.weight" is "-24" bytes long'],
  ["a negative offset", graph([weight({ start: -8, end: 16 })]), 'folder/onnx/m.onnx: weight "model.norm.weight" begins at "-8"'],
])("refuses %s", (_, model, message) => {
  expect(() => read(model)).toThrow(new InputError(message));
});

it("takes no model that was cut short for a whole one", () => {
  const whole = graph([weight()]);
  const fields = [...fieldsOf(whole, "whole")];
  let cuts = 0;
  for (let length = 0; length < whole.length; length++) {
    try {
      // Cut between two fields it is a model still, and one that may have no weights.
      expect(read(whole.subarray(0, length)).tensors.size).toBeLessThan(2);
    } catch (error) {
      expect(error).toBeInstanceOf(InputError);
      cuts++;
    }
  }
  expect(cuts).toBeGreaterThanOrEqual(whole.length - fields.length);
});

it.each<readonly [string, readonly number[], string]>([
  ["ends in the middle of a number", [0xff, 0xff], "folder/onnx/m.onnx is no ONNX model: it ends in the middle of a number"],
  ["has a number that is too long", Array<number>(12).fill(0xff), "folder/onnx/m.onnx is no ONNX model: it has a number of more than 64 bits"],
  ["has a group", [0x0b], "folder/onnx/m.onnx is no ONNX model: it has a field of the unknown kind 3"],
  ["has a field that is cut", [0x12, 5, 1], "folder/onnx/m.onnx is no ONNX model, or cut short: a field of 5 bytes reaches beyond its end"],
  ["has a name that is no text", [0x12, 1, 0xff], "folder/onnx/m.onnx: a name in it is not valid UTF-8"],
])("refuses a file that %s", (_, bytes, message) => {
  expect(() => read(Uint8Array.from(bytes))).toThrow(new InputError(message));
});
