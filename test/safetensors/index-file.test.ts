import { expect, test } from "vitest";
import { InputError } from "#src/errors.js";
import { checkIndex, parseIndex } from "#src/safetensors/index-file.js";

const parse = (value: unknown): ReadonlyMap<string, string> =>
  parseIndex(new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value)), "i.json");

test("reads weight_map and leaves the rest alone", () => {
  const index = parse('{"metadata":{"total_size":"much"},"weight_map":{"b":"x.safetensors","a":"y-1.safetensors","__proto__":"x.safetensors"}}');
  expect([...index]).toEqual([["b", "x.safetensors"], ["a", "y-1.safetensors"], ["__proto__", "x.safetensors"]]);
});

test.each<[unknown, string]>([
  [{}, "weight_map is missing or not an object"],
  [{ weight_map: ["a"] }, "weight_map is missing or not an object"],
  [{ weight_map: {} }, "weight_map is empty"],
])("refuses %j", (value, message) => {
  expect(() => parse(value)).toThrow(new InputError(`i.json: ${message}`));
});

test.each([
  "../x.safetensors", "/x.safetensors", "sub/x.safetensors", "sub\\x.safetensors", "C:x.safetensors", "x.bin", ".safetensors", "x.safetensors\n", "x\0.safetensors",
  7, null, ["x.safetensors"],
])("refuses %j as a file", (file) => {
  expect(() => parse({ weight_map: { a: file } })).toThrow(
    new InputError(`i.json: tensor "a" is said to be in ${JSON.stringify(file)}; it must be the plain name of a .safetensors file beside the index`),
  );
});

test("refuses a tensor listed twice", () => {
  expect(() => parse('{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}')).toThrow(new InputError('i.json repeats the key "a"'));
});

const index = new Map([["a", "x"], ["b", "x"], ["c", "y"]]);

test("an index that agrees with the headers passes", () => {
  expect(() => checkIndex(index, new Map([["x", ["b", "a"]], ["y", ["c"]]]), "i.json")).not.toThrow();
});

test.each<[string, [string, string[]][], string]>([
  ["a tensor that is nowhere", [["x", ["a"]], ["y", ["c"]]], 'tensor "b" is said to be in x, but is not'],
  ["a tensor in another file", [["x", ["a"]], ["y", ["b", "c"]]], 'tensor "b" is said to be in x, but is not'],
  ["a tensor in two files", [["x", ["a", "b", "c"]], ["y", ["c"]]], 'tensor "c" is in two files, x and y'],
  ["a tensor that is not listed", [["x", ["a", "b"]], ["y", ["c", "d"]]], 'tensor "d" is in y, but is not listed'],
])("finds %s", (_, shards, message) => {
  expect(() => checkIndex(index, new Map(shards), "i.json")).toThrow(new InputError(`i.json: ${message}`));
});
