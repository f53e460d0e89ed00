import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { InputError } from "#src/errors.js";
import { fromFloat32 } from "#src/safetensors/floats.js";
import { indexJson, planShards } from "#src/safetensors/layout.js";
import type { Tensor } from "#src/safetensors/tensor.js";
import { openCheckpoint, readHeader } from "#src/source/checkpoint.js";
import type { Checkpoint } from "#src/source/checkpoint.js";
import { openFolder } from "#src/source/folder.js";
import { openWithNpm, safetensorsFile } from "../safetensors/files.js";
import { MemorySource } from "./memory-source.js";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

function tensor(name: string, dtype: Tensor["dtype"], shape: number[], bytes: Uint8Array<ArrayBuffer>): Tensor {
  return { name, dtype, shape, bytes };
}

const ROWS = 300;
const WIDTH = 5;
const values = Float32Array.from({ length: ROWS * WIDTH }, (_, i) => i - 700);
const TENSORS = [
  tensor("embed", "F16", [ROWS, WIDTH], fromFloat32(values, "F16")),
  tensor("odd", "U8", [3], Uint8Array.of(1, 2, 3)),
  tensor("norm", "BF16", [4], fromFloat32(Float32Array.of(1, -2, 0.5, 8), "BF16")),
  tensor("empty", "F32", [0, 7], new Uint8Array(0)),
  tensor("scalar", "F64", [], fromFloat32(Float32Array.of(0.25), "F64")),
  tensor("packed", "I32", [2], Uint8Array.of(1, 0, 0, 0, 255, 255, 255, 255)),
];

/** A checkpoint's files: the tensors in shards of at most `maximum` bytes, the index where there are several, config and tokenizer. */
function filesOf(tensors: readonly Tensor[], maximum: number): Map<string, Uint8Array> {
  const files = new Map([["config.json", bytesOf('{"model_type":"llama"}')], ["tokenizer.json", bytesOf("{}")], ["LICENSE", bytesOf("free")]]);
  const shards = planShards(tensors, maximum);
  for (const shard of shards) {
    const file = new Uint8Array(shard.size);
    file.set(shard.header);
    for (const { name, start } of shard.tensors) file.set(tensors.find((t) => t.name === name)!.bytes, start);
    files.set(shard.file, file);
  }
  if (shards.length > 1) files.set("model.safetensors.index.json", bytesOf(indexJson(shards)));
  return files;
}

async function open(maximum = 1e9): Promise<{ checkpoint: Checkpoint; source: MemorySource }> {
  const source = new MemorySource(filesOf(TENSORS, maximum));
  const checkpoint = await openCheckpoint(source);
  source.reads.length = 0;
  return { checkpoint, source };
}

describe.each([["one file", 1e9], ["shards", 20]])("%s", (_, maximum) => {
  test("tensors, config and the other files are found", async () => {
    const { checkpoint } = await open(maximum);
    expect(checkpoint.config).toEqual({ model_type: "llama" });
    expect([...checkpoint.files]).toEqual([["tokenizer.json", 2], ["LICENSE", 4]]);
    expect([...checkpoint.tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape }))).toEqual(
      TENSORS.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
    );
  });

  test("every tensor's bytes come back, one by one and together, in memory of their own", async () => {
    const { checkpoint } = await open(maximum);
    for (const expected of TENSORS) expect(await checkpoint.read(expected.name)).toEqual(expected);
    const names = TENSORS.map(({ name }) => name).reverse();
    const many = await checkpoint.readMany([...names, "odd"]);
    expect([...many.keys()]).toEqual(names);
    expect([...many.values()]).toEqual([...TENSORS].reverse());
    for (const { bytes } of many.values()) expect(bytes.buffer.byteLength).toBe(bytes.length);
  });

  test("values come back", async () => {
    const { checkpoint } = await open(maximum);
    expect(await checkpoint.readFloat32("embed")).toEqual(values);
    expect([...(await checkpoint.readFloat32("norm"))]).toEqual([1, -2, 0.5, 8]);
    expect([...(await checkpoint.readFloat32("scalar"))]).toEqual([0.25]);
    expect([...(await checkpoint.readFloat32("empty"))]).toEqual([]);
  });

  test("rows come back in the order asked for, and as often", async () => {
    const { checkpoint } = await open(maximum);
    const rows = [299, 0, 7, 7, 298, 0];
    expect(await checkpoint.readRows("embed", rows)).toEqual(Float32Array.from(rows.flatMap((row) => [...values.subarray(row * WIDTH, (row + 1) * WIDTH)])));
    expect(await checkpoint.readRows("embed", new Uint32Array(0))).toEqual(new Float32Array(0));
  });
});

test("only the bytes that are needed are read, neighbours together", async () => {
  const { checkpoint, source } = await open();
  const { start, end } = checkpoint.tensors.get("embed")!;
  await checkpoint.readMany(["norm", "embed", "odd"]);
  await checkpoint.readRows("embed", [4, 3]);
  await checkpoint.read("packed");
  const packed = checkpoint.tensors.get("packed")!;
  expect(source.reads).toEqual([
    `model.safetensors ${start}-${end + 3 + 8}`,
    `model.safetensors ${start + 3 * WIDTH * 2}-${start + 5 * WIDTH * 2}`,
    `model.safetensors ${packed.start}-${packed.end}`,
  ]);
});

test("opening reads headers and JSON, no weights", async () => {
  const source = new MemorySource(filesOf([...TENSORS, tensor("large", "U8", [100_000], new Uint8Array(100_000))], 5000));
  await openCheckpoint(source);
  expect(source.reads.map((read) => read.split(" ")[0])).toEqual([
    "config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
  ]);
  expect(source.reads.at(-1)).toBe("model-00002-of-00002.safetensors 0-65536");
});

test("a header larger than the first read is read whole", async () => {
  const many = Array.from({ length: 2000 }, (_, i) => tensor(`model.layers.${i}.weight`, "U8", [1], Uint8Array.of(i % 256)));
  const checkpoint = await openCheckpoint(new MemorySource(filesOf(many, 1e9)));
  expect(checkpoint.tensors.size).toBe(2000);
  expect([...(await checkpoint.read("model.layers.1999.weight")).bytes]).toEqual([1999 % 256]);
});

test("large tensors are converted piece by piece", async () => {
  const large = Float32Array.from({ length: 17 * 2 ** 20 + 3 }, (_, i) => (i % 512) - 256);
  const checkpoint = await openCheckpoint(new MemorySource(filesOf([tensor("pre", "U8", [1], Uint8Array.of(1)), tensor("x", "BF16", [large.length], fromFloat32(large, "BF16"))], 1e9)));
  const read = await checkpoint.readFloat32("x");
  expect(read.length).toBe(large.length);
  expect(read.findIndex((value, i) => value !== large[i])).toBe(-1);
});

test("model.safetensors comes before an index, as in transformers", async () => {
  const files = filesOf(TENSORS, 1e9);
  files.set("model.safetensors.index.json", bytesOf("not even JSON"));
  expect((await openCheckpoint(new MemorySource(files))).tensors.size).toBe(TENSORS.length);
});

test("fingerprints are the source's, with the header's hash", async () => {
  const files = filesOf(TENSORS, 20);
  const checkpoint = await openCheckpoint(new MemorySource(files));
  const prints = await checkpoint.fingerprints();
  const shards = [...files].filter(([name]) => name.endsWith(".safetensors"));
  expect(prints).toEqual(
    Object.fromEntries(
      shards.map(([name, bytes]) => {
        const end = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
        return [name, `state of ${name}, header ${createHash("sha256").update(bytes.subarray(0, end)).digest("hex")}`];
      }),
    ),
  );
});

describe("refuses", () => {
  const edited = (edit: (files: Map<string, Uint8Array>) => void, maximum = 20): MemorySource => {
    const files = filesOf(TENSORS, maximum);
    edit(files);
    return new MemorySource(files);
  };
  const without = (files: Map<string, Uint8Array>, ...others: string[]): void => {
    for (const name of files.keys()) if (name.includes("safetensors")) files.delete(name);
    for (const name of others) files.set(name, bytesOf("x"));
  };
  const first = "model-00001-of-00003.safetensors";

  test.each<[string, MemorySource, string]>([
    ["no config.json", edited((files) => files.delete("config.json")), "repo: has no config.json"],
    ["a config.json that is a list", edited((files) => files.set("config.json", bytesOf("[]"))), "repo/config.json is not a JSON object"],
    ["a config.json that nests deep", edited((files) => files.set("config.json", bytesOf(`{"a":${"[".repeat(64)}${"]".repeat(64)}}`))), "repo/config.json nests deeper than 64 levels"],
    ["a config.json that is huge", edited((files) => files.set("config.json", new Uint8Array(2 ** 25 + 1))), "repo/config.json has 33554433 bytes; at most 33554432 are read"],
    ["pickles", edited((files) => without(files, "pytorch_model.bin")), "repo: has no safetensors weights, only pytorch_model.bin; convert it to safetensors first (transformers' save_pretrained does)"],
    ["pickles in shards", edited((files) => without(files, "pytorch_model-00001-of-00002.bin")), "repo: has no safetensors weights, only pytorch_model-00001-of-00002.bin; convert it to safetensors first (transformers' save_pretrained does)"],
    ["GGUF", edited((files) => without(files, "m.gguf")), "repo: has no safetensors weights, only m.gguf; a GGUF file is quantized already, take the original checkpoint"],
    ["no weights", edited((files) => without(files)), "repo: has no safetensors weights: neither model.safetensors nor model.safetensors.index.json"],
    ["a shard that is missing", edited((files) => files.delete(first)), `repo/model.safetensors.index.json: names ${first}, which is missing`],
    ["a shard that is broken", edited((files) => files.set(first, bytesOf("x"))), `repo/${first}: 1 bytes are too few for a safetensors file`],
    ["an index that lies", edited((files) => files.set(first, safetensorsFile({}))), `repo/model.safetensors.index.json: tensor "embed" is said to be in ${first}, but is not`],
    ["an index that leads out", edited((files) => files.set("model.safetensors.index.json", bytesOf('{"weight_map":{"a":"../b.safetensors"}}'))), 'repo/model.safetensors.index.json: tensor "a" is said to be in "../b.safetensors"; it must be the plain name of a .safetensors file beside the index'],
    ["a single file that is broken", edited((files) => files.set("model.safetensors", bytesOf("12345678{}")), 1e9), "repo/model.safetensors: the header claims 4050765991979987505 bytes; safetensors allows 100000000"],
  ])("%s", async (_, source, message) => {
    await expect(openCheckpoint(source)).rejects.toThrow(new InputError(message));
  });

  test("names, dtypes and rows that are not there", async () => {
    const { checkpoint, source } = await open();
    const cases: [Promise<unknown>, string][] = [
      [checkpoint.read("nope"), 'repo: has no tensor "nope"'],
      [checkpoint.readMany(["norm", "nope"]), 'repo: has no tensor "nope"'],
      [checkpoint.readFloat32("packed"), 'repo/model.safetensors: tensor "packed" is I32; floats are read from F16, BF16, F32, F64'],
      [checkpoint.readRows("odd", [0]), 'repo/model.safetensors: tensor "odd" is U8; floats are read from F16, BF16, F32, F64'],
      [checkpoint.readRows("norm", [0]), 'repo/model.safetensors: tensor "norm" has the shape [4], and so no rows'],
      [checkpoint.readRows("embed", [0, 300]), 'repo/model.safetensors: tensor "embed" has 300 rows, and no row 300'],
      [checkpoint.readRows("embed", [-1]), 'repo/model.safetensors: tensor "embed" has 300 rows, and no row -1'],
    ];
    for (const [promise, message] of cases) await expect(promise).rejects.toThrow(new InputError(message));
    expect(source.reads).toEqual([]);
  });
});

const STORIES = fileURLToPath(new URL("../../../shared/models/stories260K", import.meta.url));

describe.skipIf(!existsSync(STORIES))("stories260K", () => {
  test("is read as PyTorch reads it, and as the npm package does", async () => {
    const folder = await openFolder(STORIES);
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.config["model_type"]).toBe("llama");
    expect([...checkpoint.files.keys()]).toEqual(["tokenizer.json", "tokenizer_config.json"]);

    const reader = openWithNpm(new Uint8Array(readFileSync(`${STORIES}/model.safetensors`)));
    const tensors = await checkpoint.readMany([...checkpoint.tensors.keys()]);
    expect(new Set(tensors.keys())).toEqual(new Set(reader.metadata.keys()));
    for (const { name, dtype, shape, bytes } of tensors.values()) {
      expect(reader.metadata.get(name)).toMatchObject({ dtype, shape });
      expect(Buffer.compare(reader.getTensor(name), bytes)).toBe(0);
    }

    // From torch: embed.double().sum() and rows 5 and 3.
    const embedding = await checkpoint.readFloat32("model.embed_tokens.weight");
    expect(embedding.reduce((sum, value) => sum + value, 0)).toBeCloseTo(-752.3677446640068, 9);
    const rows = await checkpoint.readRows("model.embed_tokens.weight", [5, 3]);
    expect([...rows.subarray(0, 3), ...rows.subarray(64, 67)]).toEqual([
      -0.29471948742866516, 0.5619098544120789, 0.17536959052085876, -0.294771671295166, 0.5618801712989807, 0.17545069754123688,
    ]);
    await folder.close();
  });

  test("its header alone", async () => {
    const folder = await openFolder(STORIES);
    const header = await readHeader(folder, "model.safetensors", 1_044_984);
    expect(header.tensors.size).toBe(47);
    expect([...header.tensors.values()].at(-1)!.end).toBe(1_044_984);
    await folder.close();
  });
});
