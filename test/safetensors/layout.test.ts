import fc from "fast-check";
import { expect, test } from "vitest";
import { InputError } from "#src/errors.js";
import { byteSize, DTYPE_BITS } from "#src/safetensors/dtypes.js";
import type { Dtype } from "#src/safetensors/dtypes.js";
import { fromFloat32, toFloat32 } from "#src/safetensors/floats.js";
import { parseHeader } from "#src/safetensors/header.js";
import { checkIndex, parseIndex } from "#src/safetensors/index-file.js";
import { indexJson, planShards } from "#src/safetensors/layout.js";
import type { Shard } from "#src/safetensors/layout.js";
import type { TensorSpec } from "#src/safetensors/tensor.js";
import { openWithNpm } from "./files.js";

const u8 = (name: string, ...shape: number[]): TensorSpec => ({ name, dtype: "U8", shape });
const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

test("one shard has its own name, and its header is as the format says, to the byte", () => {
  const [shard, ...more] = planShards([u8("b", 3), { name: "a", dtype: "F16", shape: [] }], 100);
  expect(more).toEqual([]);
  const json = '{"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"a":{"dtype":"F16","shape":[],"data_offsets":[3,5]}}';
  expect(textOf(shard.header.subarray(8))).toBe(json.padEnd(Math.ceil(json.length / 8) * 8));
  expect([...shard.header.subarray(0, 8)]).toEqual([shard.header.length - 8, 0, 0, 0, 0, 0, 0, 0]);
  expect(shard.file).toBe("model.safetensors");
  expect(shard.size).toBe(shard.header.length + 5);
  expect(shard.tensors.map(({ name, start, end }) => [name, start - shard.header.length, end - start])).toEqual([["b", 0, 3], ["a", 3, 2]]);
});

test("shards are filled up to the maximum, in order; what is larger has one of its own", () => {
  const shards = planShards([u8("a", 6), u8("b", 4), u8("c", 1), u8("big", 25), u8("z", 0), u8("d", 9)], 10);
  expect(shards.map(({ file, tensors }) => [file, tensors.map(({ name }) => name).join(" ")])).toEqual([
    ["model-00001-of-00004.safetensors", "a b"],
    ["model-00002-of-00004.safetensors", "c"],
    ["model-00003-of-00004.safetensors", "big"],
    ["model-00004-of-00004.safetensors", "z d"],
  ]);
});

test("no tensors make one file without any", () => {
  const [{ header, size }] = planShards([], 10);
  expect(parseHeader(header, size, "x")).toEqual({ tensors: new Map(), metadata: new Map([["format", "pt"]]), end: size });
});

test("the index is what transformers writes", () => {
  const shards = planShards([u8("m.10", 6), u8("m.9", 4), u8("__proto__", 2), u8("7", 1)], 10);
  expect(indexJson(shards)).toBe(`{
  "metadata": {
    "total_size": 13
  },
  "weight_map": {
    "7": "model-00002-of-00002.safetensors",
    "__proto__": "model-00002-of-00002.safetensors",
    "m.10": "model-00001-of-00002.safetensors",
    "m.9": "model-00001-of-00002.safetensors"
  }
}
`);
});

test.each<[string, TensorSpec[], string]>([
  ["a name twice", [u8("a", 1), u8("a", 2)], 'two tensors are named "a"'],
  ["the reserved name", [u8("__metadata__", 1)], 'a tensor cannot be named "__metadata__": safetensors reserves the name'],
  ["a name that is not Unicode", [u8("\ud800", 1)], 'a tensor cannot be named "\\ud800": it is not valid Unicode'],
  ["half a byte", [{ name: "a", dtype: "F4", shape: [3] }], 'tensor "a": F4 of shape [3] is not a whole number of bytes that can be counted'],
  ["too much", [u8("a", 2 ** 52)], 'tensor "a": U8 of shape [4503599627370496] is not a whole number of bytes that can be counted'],
])("refuses %s", (_, specs, message) => {
  expect(() => planShards(specs, 100)).toThrow(new InputError(message));
});

const specList = fc.uniqueArray(
  fc.record({
    name: fc.string({ unit: "grapheme" }).filter((name) => name !== "__metadata__"),
    dtype: fc.constantFrom(...(Object.keys(DTYPE_BITS) as Dtype[])),
    shape: fc.array(fc.nat(4), { maxLength: 3 }).map((sizes) => [...sizes, 8]),
  }),
  { selector: ({ name }) => name, maxLength: 12 },
);

test("any plan is read back as it was meant, and its index agrees with it", () => {
  fc.assert(
    fc.property(specList, fc.integer({ min: 1, max: 500 }), (specs, maximum) => {
      const shards = planShards(specs, maximum);
      for (const shard of shards) {
        const header = parseHeader(shard.header, shard.size, shard.file);
        expect([...header.tensors.values()]).toEqual(shard.tensors);
        expect(header.end % 8).toBe(0);
        const bytes = shard.size - header.end;
        if (shard.tensors.filter(({ start, end }) => end > start).length > 1) expect(bytes).toBeLessThanOrEqual(maximum);
      }
      expect(shards.flatMap(({ tensors }) => tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })))).toEqual(specs);
      if (specs.length === 0) return;
      const index = parseIndex(new TextEncoder().encode(indexJson(shards)), "i");
      checkIndex(index, new Map(shards.map(({ file, tensors }) => [file, tensors.map(({ name }) => name)])), "i");
    }),
  );
});

/** The file as the pipeline writes it: header, then each tensor at its offset. */
function write(shard: Shard, bytesOf: (name: string) => Uint8Array): Uint8Array {
  const file = new Uint8Array(shard.size);
  file.set(shard.header);
  for (const { name, start } of shard.tensors) file.set(bytesOf(name), start);
  return file;
}

test("the npm package `safetensors` reads what we write", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ dtype: fc.constantFrom("F16", "BF16", "F32", "F64" as const), values: fc.array(fc.integer({ min: -128, max: 128 }), { maxLength: 9 }) })),
      (tensors) => {
        const specs = tensors.map(({ dtype, values }, i) => ({ name: `model.layers.${i}."é"`, dtype, shape: [values.length, 1] }));
        const bytes = new Map(specs.map(({ name, dtype }, i) => [name, fromFloat32(Float32Array.from(tensors[i].values), dtype)]));
        for (const shard of planShards(specs, 40)) {
          const reader = openWithNpm(write(shard, (name) => bytes.get(name)!));
          for (const { name, dtype, shape } of shard.tensors) {
            const { dtype: itsDtype, shape: itsShape } = reader.metadata.get(name)!;
            expect([itsDtype, itsShape]).toEqual([dtype, shape]);
            expect(reader.getTensor(name)).toEqual(bytes.get(name));
            const i = specs.findIndex((spec) => spec.name === name);
            expect([...toFloat32(reader.getTensor(name).slice(), dtype as "F16")]).toEqual(tensors[i].values.map((value) => value + 0));
          }
        }
        expect(specs.every(({ dtype, shape, name }) => bytes.get(name)!.length === byteSize(dtype, shape))).toBe(true);
      },
    ),
  );
});
