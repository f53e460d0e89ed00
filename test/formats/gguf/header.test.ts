import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readGguf } from "#src/formats/gguf/read-header.js";
import type { GgufKey } from "#src/formats/gguf/values.js";
import { ggufHeader, type GgufTensor } from "#src/formats/gguf/write-header.js";

const readBytes = (bytes: Uint8Array<ArrayBuffer>, size = bytes.length) => readGguf((start, end) => Promise.resolve(bytes.slice(start, end)), size, "m.gguf");

it("a file that PyPI's gguf wrote is read: every type of value, tensors at their alignment", async () => {
  const bytes = Uint8Array.from(readFileSync(new URL("../../fixtures/gguf/values.gguf", import.meta.url)));
  const { keys, tensors, header } = await readBytes(bytes);
  expect(Object.fromEntries(keys)).toEqual({
    "general.architecture": { type: "string", value: "llama" },
    "general.alignment": { type: "u32", value: 64 },
    "one.uint8": { type: "u8", value: 200 }, "one.int8": { type: "i8", value: -100 },
    "one.uint16": { type: "u16", value: 60_000 }, "one.int16": { type: "i16", value: -30_000 },
    "one.uint32": { type: "u32", value: 4_000_000_000 }, "one.int32": { type: "i32", value: -2_000_000_000 },
    "one.uint64": { type: "u64", value: 2n ** 63n }, "one.int64": { type: "i64", value: -(2n ** 62n) },
    "one.float32": { type: "f32", value: 0.5 }, "one.float64": { type: "f64", value: 0.1 }, "one.bool": { type: "bool", value: true },
    "one.string": { type: "string", value: "grüß" },
    "many.uint32": { type: "array", of: "u32", values: [4_000_000_000, 4_000_000_000] },
    "many.float32": { type: "array", of: "f32", values: [0.5, 0.5] },
    "many.int64": { type: "array", of: "i64", values: [-(2n ** 62n), -(2n ** 62n)] },
    "many.bool": { type: "array", of: "bool", values: [true, true] },
    "many.string": { type: "array", of: "string", values: ["a", "", "▁b"] },
  });
  expect([...tensors.values()].map(({ name, type, shape, start, end }) => [name, type.name, shape, start % 64, end - start])).toEqual([
    ["a", "F32", [2, 32], 0, 256], ["b", "Q4_0", [2, 32], 0, 36], ["c", "F16", [2, 32], 0, 128],
  ]);
  const { start } = tensors.get("a")!;
  expect(start).toBe(header.length);
  expect([...new Float32Array(bytes.slice(start, start + 12).buffer)]).toEqual([0, 1, 2]);
});

const KEYS: GgufKey[] = [
  ["general.architecture", { type: "string", value: "llama" }],
  ["x.tokens", { type: "array", of: "string", values: Array.from({ length: 100_000 }, (_, i) => `token ${String(i)}`) }],
  ["x.scores", { type: "array", of: "f32", values: Float32Array.of(1, 2.5) }],
  ["x.on", { type: "bool", value: false }],
  ["x.eps", { type: "f32", value: 1e-5 }],
];
const TENSORS: GgufTensor[] = [
  { name: "a", type: "F32", shape: [5], bytes: 20 },
  { name: "b", type: "Q4_0", shape: [3, 64], bytes: 108 },
  { name: "c", type: "BF16", shape: [2, 2], bytes: 8 },
];

it("what is written is read back, a header longer than the first read too", async () => {
  const { header, starts } = ggufHeader(KEYS, TENSORS);
  expect(header.length).toBeGreaterThan(1 << 20);
  expect(starts).toEqual([header.length, header.length + 32, header.length + 160]);
  const file = new Uint8Array(starts[2] + 8);
  file.set(header);
  const { keys, tensors } = await readBytes(file);
  expect([...keys.keys()]).toEqual(KEYS.map(([name]) => name));
  expect(keys.get("x.tokens")).toEqual(KEYS[1][1]);
  expect(keys.get("x.eps")).toEqual({ type: "f32", value: Math.fround(1e-5) });
  expect([...tensors.values()].map(({ name, type, shape, start, end }) => ({ name, type: type.name, shape, start, end })))
    .toEqual(TENSORS.map(({ name, type, shape, bytes }, i) => ({ name, type, shape, start: starts[i], end: starts[i] + bytes })));
});

describe("hostile headers", () => {
  const small: GgufKey[] = [["k", { type: "u32", value: 7 }]];
  const { header, starts } = ggufHeader(small, TENSORS.slice(0, 2));
  const good = new Uint8Array(starts[1] + 108);
  good.set(header);
  // Magic, version, counts; the key: name, type, value; each tensor: name, dimensions, sizes, type, offset.
  const AT = { version: 4, tensors: 8, keys: 16, keyLength: 24, key: 32, keyType: 33, aDims: 50, aSize: 54, aType: 62, bName: 82, bWidth: 87, bOffset: 107 };
  const changed = (at: number, ...bytes: number[]) => {
    const copy = good.slice();
    copy.set(bytes, at);
    return copy;
  };
  const HUGE = [255, 255, 255, 255, 255, 255, 255, 127];

  it.each<[string, Uint8Array<ArrayBuffer>, string]>([
    ["an empty file", new Uint8Array(0), "m.gguf: the file ends within its header, in its first bytes"],
    ["another kind of file", changed(0, 80), "m.gguf: does not begin with GGUF"],
    ["version 2", changed(AT.version, 2), "m.gguf: is GGUF of version 2; version 3, little-endian, can be read"],
    ["more tensors than fit", changed(AT.tensors, ...HUGE), `m.gguf: claims 9223372036854775807 tensors, more than fit into its ${String(good.length)} bytes`],
    ["more keys than fit", changed(AT.keys, ...HUGE), `m.gguf: claims 9223372036854775807 keys, more than fit into its ${String(good.length)} bytes`],
    ["a name without end", changed(AT.keyLength, ...HUGE), `m.gguf: claims 9223372036854775807 bytes for a string of key 1 of 1, more than fit into its ${String(good.length)} bytes`],
    ["a name that is no UTF-8", changed(AT.key, 255), "m.gguf: key 1 of 1 has a name that is not valid UTF-8"],
    ["a value of no type", changed(AT.keyType, 77), 'm.gguf: key "k" has a value of type 77, which cannot be read'],
    ["no dimensions", changed(AT.aDims, 0), 'm.gguf: tensor "a" has 0 dimensions; 1 to 4 can be read'],
    ["five dimensions", changed(AT.aDims, 5), 'm.gguf: tensor "a" has 5 dimensions; 1 to 4 can be read'],
    ["nothing in a tensor", changed(AT.aSize, 0), 'm.gguf: tensor "a" has the shape [0]'],
    ["a tensor past counting", changed(AT.aSize, ...HUGE), 'm.gguf: tensor "a" has the shape [9223372036854775807]'],
    ["a tensor past the file", changed(AT.aSize, 0, 0, 0, 1), `m.gguf: tensor "a" ends at byte ${String(header.length + 4 * 2 ** 24)}, but the file has only ${String(good.length)}`],
    ["a type of no number", changed(AT.aType, 99), 'm.gguf: tensor "a" is of type 99, which is not known'],
    ["rows of no whole blocks", changed(AT.bWidth, 65), 'm.gguf: tensor "b" is Q4_0 with rows of 65, which are no whole blocks of 32'],
    ["two of one name", changed(AT.bName, 97), 'm.gguf: has two tensors named "a"'],
    ["tensors that overlap", changed(AT.bOffset, 0), 'm.gguf: tensor "b" begins at byte 0 of the data, not where the one before it ends, at 32'],
    ["a file cut short in its data", good.subarray(0, good.length - 1), `m.gguf: tensor "b" ends at byte ${String(good.length)}, but the file has only ${String(good.length - 1)}`],
    ["a file cut short in its header", good.subarray(0, 100), 'm.gguf: the file ends within its header, in tensor "b"'],
  ])("%s", async (_, bytes, message) => {
    await expect(readBytes(bytes)).rejects.toThrow(expect.objectContaining({ name: "InputError", message }));
  });

  it("an alignment that is no power of two, an array longer than the file, two keys of one name", async () => {
    const reading = (keys: readonly GgufKey[]) => readBytes(ggufHeader(keys, []).header);
    await expect(reading([["general.alignment", { type: "u32", value: 48 }]])).rejects.toThrow('m.gguf: general.alignment is "48"; expected a power of two');
    await expect(reading([small[0], small[0]])).rejects.toThrow('m.gguf: has two keys "k"');
    const array = ggufHeader([["k", { type: "array", of: "f32", values: [1, 2] }]], []).header;
    array[41] = 200;
    await expect(readBytes(array)).rejects.toThrow(`m.gguf: claims 200 elements of key "k", more than fit into its ${String(array.length)} bytes`);
  });

  it("any byte changed is read or named, never a crash", async () => {
    for (let at = 0; at < header.length; at++) {
      for (const byte of [0, 1, 127, 255]) {
        const result = await readBytes(changed(at, byte)).then(() => undefined, (error: unknown) => (error as Error).name);
        expect(result ?? "InputError").toBe("InputError");
      }
    }
  });
});
