import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputError } from "#src/errors.js";
import { byteSize, DTYPE_BITS } from "#src/safetensors/dtypes.js";
import type { Dtype } from "#src/safetensors/dtypes.js";
import { headerEnd, parseHeader } from "#src/safetensors/header.js";
import type { Header } from "#src/safetensors/header.js";
import { safetensorsFile } from "./files.js";

const parse = (file: Uint8Array): Header => parseHeader(file, file.length, "m.safetensors");
const parseText = (header: unknown, data = 0): Header => parse(safetensorsFile(header, data));
const f16 = (shape: unknown, ...offsets: unknown[]): object => ({ dtype: "F16", shape, data_offsets: offsets });

describe("reads", () => {
  test("tensors in the order of their bytes, wherever the header has them", () => {
    const header = parseText({ b: f16([2], 6, 10), a: f16([3, 1], 0, 6), __metadata__: { format: "pt" } }, 10);
    const start = header.end;
    expect([...header.tensors]).toEqual([
      ["a", { name: "a", dtype: "F16", shape: [3, 1], start, end: start + 6 }],
      ["b", { name: "b", dtype: "F16", shape: [2], start: start + 6, end: start + 10 }],
    ]);
    expect([...header.metadata]).toEqual([["format", "pt"]]);
    expect(start % 8).toBe(0);
  });

  test("a file without tensors", () => {
    expect(parseText({})).toEqual({ tensors: new Map(), metadata: new Map(), end: 16 });
  });

  test("scalars, and tensors of no bytes wherever they lie", () => {
    const { tensors, end } = parseText({ s: f16([], 0, 2), z: f16([0], 2, 2), y: f16([4, 0], 0, 0), x: f16([0], 6, 6), t: f16([2], 2, 6) }, 6);
    expect([...tensors.values()].map(({ name, start }) => [name, start - end])).toEqual([["y", 0], ["s", 0], ["z", 2], ["t", 2], ["x", 6]]);
  });

  test.each(Object.keys(DTYPE_BITS) as Dtype[])("%s", (dtype) => {
    const bytes = DTYPE_BITS[dtype]; // of eight elements
    const { tensors, end } = parseText({ x: { dtype, shape: [2, 4], data_offsets: [0, bytes] } }, bytes);
    expect(tensors.get("x")).toEqual({ name: "x", dtype, shape: [2, 4], start: end, end: end + bytes });
  });

  test("names that JavaScript's objects treat specially", () => {
    const { tensors } = parseText(
      '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"7":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}',
      3,
    );
    expect([...tensors.keys()]).toEqual(["__proto__", "constructor", "7"]);
  });

  test("a header that only starts the bytes given", () => {
    const file = safetensorsFile({ a: f16([2], 0, 4) }, 4);
    const end = headerEnd(file.subarray(0, 8), file.length, "m.safetensors");
    expect(parseHeader(file.subarray(0, end), file.length, "m.safetensors").tensors.size).toBe(1);
    expect(() => parseHeader(file.subarray(0, end - 1), file.length, "m.safetensors")).toThrow(RangeError);
  });
});

describe("refuses", () => {
  const word = (length: bigint, rest = ""): Uint8Array => {
    const prefix = new Uint8Array(8);
    new DataView(prefix.buffer).setBigUint64(0, length, true);
    return Uint8Array.of(...prefix, ...new TextEncoder().encode(rest));
  };

  test.each<[string, Uint8Array, string]>([
    ["an empty file", new Uint8Array(0), "0 bytes are too few for a safetensors file"],
    ["seven bytes", new Uint8Array(7), "7 bytes are too few for a safetensors file"],
    ["a length beyond the format's limit", word(100_000_001n, "{}"), "the header claims 100000001 bytes; safetensors allows 100000000"],
    ["the largest length", word(2n ** 64n - 1n, "{}"), "the header claims 18446744073709551615 bytes; safetensors allows 100000000"],
    ["a length beyond the file", word(3n, "{}"), "the header claims 3 bytes, but the file has only 10"],
    ["a header of no bytes", word(0n), 'the header does not begin with "{"'],
    ["a space before the header", word(3n, " {}"), 'the header does not begin with "{"'],
    ["a byte order mark", safetensorsFile("\uFEFF{}"), 'the header does not begin with "{"'],
    ["a pickle", word(2n, "\u0080\u0002"), 'the header does not begin with "{"'],
  ])("%s", (_, file, message) => {
    expect(() => parse(file)).toThrow(new InputError(`m.safetensors: ${message}`));
  });

  test("bytes that are not UTF-8", () => {
    const file = safetensorsFile('{"?":1}');
    file[10] = 0xff;
    expect(() => parse(file)).toThrow(new InputError("m.safetensors: the header is not valid UTF-8"));
  });

  const big = 2 ** 53;
  test.each<[string, unknown, number, string]>([
    ["a repeated name", '{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}', 2, ': the header repeats the key "a"'],
    ["a repeated field", '{"a":{"dtype":"F16","shape":[1],"shape":[2],"data_offsets":[0,2]}}', 2, ': the header repeats the key "shape"'],
    ["deep nesting", { a: [[[[1]]]] }, 0, ": the header nests deeper than 4 levels"],
    ["metadata that is a list", { __metadata__: [] }, 0, ": __metadata__ is not an object"],
    ["metadata with a number", { __metadata__: { a: "x", b: 1 } }, 0, ': __metadata__ has a value that is not a string, at "b"'],
    ["a tensor that is null", { a: null }, 0, ': tensor "a" is not described by an object'],
    ["a tensor that is a list", { a: [] }, 0, ': tensor "a" is not described by an object'],
    ["no dtype", { a: { shape: [1], data_offsets: [0, 2] } }, 2, ': tensor "a" has no dtype'],
    ["no shape", { a: { dtype: "F16", data_offsets: [0, 2] } }, 2, ': tensor "a" has no shape'],
    ["no offsets", { a: { dtype: "F16", shape: [1] } }, 2, ': tensor "a" has no data_offsets'],
    ["an unknown key", { a: { ...f16([1], 0, 2), strides: [1] } }, 2, ': tensor "a" has the unknown key "strides"'],
    ["an unknown dtype", { a: { ...f16([1], 0, 2), dtype: "F12" } }, 2, ': tensor "a" has the unknown dtype "F12"'],
    ["a dtype that is a property of all objects", { a: { ...f16([1], 0, 2), dtype: "toString" } }, 2, ': tensor "a" has the unknown dtype "toString"'],
    ["a negative size", { a: f16([-1], 0, 2) }, 2, ': tensor "a" has the shape [-1]; every size must be a whole number of at least 0'],
    ["half a size", { a: f16([1.5], 0, 3) }, 3, ': tensor "a" has the shape [1.5]; every size must be a whole number of at least 0'],
    ["a size that floats cannot hold", { a: f16([big], 0, 2) }, 2, ': tensor "a" has the shape [9007199254740992]; every size must be a whole number of at least 0'],
    ["a size in words", { a: f16(["1"], 0, 2) }, 2, ': tensor "a" has the shape ["1"]; every size must be a whole number of at least 0'],
    ["a shape within a shape", { a: f16([[1]], 0, 2) }, 2, ': tensor "a" has the shape [[1]]; every size must be a whole number of at least 0'],
    ["a shape that is a number", { a: f16(1, 0, 2) }, 2, ': tensor "a" has the shape 1; every size must be a whole number of at least 0'],
    ["one offset", { a: f16([1], 0) }, 2, ': tensor "a" has the data_offsets [0]; they must be two whole numbers of at least 0'],
    ["three offsets", { a: f16([1], 0, 2, 4) }, 2, ': tensor "a" has the data_offsets [0,2,4]; they must be two whole numbers of at least 0'],
    ["a negative offset", { a: f16([1], -2, 0) }, 2, ': tensor "a" has the data_offsets [-2,0]; they must be two whole numbers of at least 0'],
    ["an offset beyond counting", { a: f16([1], 0, 1e300) }, 2, ': tensor "a" has the data_offsets [0,1e+300]; they must be two whole numbers of at least 0'],
    ["an end before the start", { a: f16([1], 4, 2) }, 4, ': tensor "a" begins at byte 4 and ends before it, at 2'],
    ["an end beyond the file", { a: f16([2], 0, 4) }, 3, ': tensor "a" ends at byte 4, but the file has only 3 bytes of data'],
    ["a shape beyond counting", { a: f16([2 ** 30, 2 ** 30], 0, 2) }, 2, ': tensor "a" is F16 of shape [1073741824,1073741824]: more than can be counted'],
    ["the same with a zero after it", { a: f16([2 ** 30, 2 ** 30, 0], 0, 0) }, 0, ': tensor "a" is F16 of shape [1073741824,1073741824,0]: more than can be counted'],
    ["bits beyond counting", { a: f16([2 ** 52], 0, 2) }, 2, ': tensor "a" is F16 of shape [4503599627370496]: more than can be counted'],
    ["half a byte", { a: { dtype: "F4", shape: [3], data_offsets: [0, 2] } }, 2, ': tensor "a" is F4 of shape [3]: elements of 4 bits that do not fill whole bytes'],
    ["too many bytes for the shape", { a: f16([1], 0, 4) }, 4, ': tensor "a" is F16 of shape [1], which takes 2 bytes, but its data_offsets span 4'],
    ["too few bytes for the shape", { a: f16([2, 2], 0, 4) }, 4, ': tensor "a" is F16 of shape [2,2], which takes 8 bytes, but its data_offsets span 4'],
    ["overlaps", { a: f16([2], 0, 4), b: f16([2], 2, 6) }, 6, ': tensor "b" overlaps tensor "a"'],
    ["two tensors in one place", { a: f16([2], 0, 4), b: f16([2], 0, 4) }, 4, ': tensor "b" overlaps tensor "a"'],
    ["no bytes inside another tensor", { a: f16([2], 0, 4), b: f16([0], 2, 2) }, 4, ': tensor "b" overlaps tensor "a"'],
    ["a hole", { a: f16([1], 0, 2), b: f16([1], 4, 6) }, 6, ': 2 bytes before tensor "b" belong to no tensor'],
    ["a hole at the front", { a: f16([1], 2, 4) }, 4, ': 2 bytes before tensor "a" belong to no tensor'],
    ["bytes at the end", { a: f16([1], 0, 2) }, 5, ": the last 3 bytes belong to no tensor"],
    ["bytes of no tensor at all", {}, 1, ": the last 1 bytes belong to no tensor"],
    ["a name that is not Unicode", '{"\\ud800":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}', 2, ': tensor "\\ud800" has a name that is not valid Unicode'],
  ])("%s", (_, header, data, message) => {
    expect(() => parseText(header, data)).toThrow(new InputError(`m.safetensors${message}`));
  });

  test("text that is not JSON", () => {
    expect(() => parseText('{"a":}')).toThrow(/^m\.safetensors: the header is not valid JSON: /);
  });
});

/** What `parseHeader` promises of anything that it returns. */
function expectConsistent({ tensors, end }: Header, fileSize: number): void {
  let covered = end;
  for (const [name, tensor] of tensors) {
    expect(tensor.name).toBe(name);
    expect(tensor.start).toBe(covered);
    expect(tensor.end - tensor.start).toBe(byteSize(tensor.dtype, tensor.shape));
    covered = tensor.end;
  }
  expect(covered).toBe(fileSize);
}

const tensorList = fc.uniqueArray(
  fc.record({
    name: fc.string({ unit: "grapheme" }).filter((name) => name !== "__metadata__"),
    dtype: fc.constantFrom(...(Object.keys(DTYPE_BITS) as Dtype[])),
    // A last size of eight makes whole bytes of any dtype.
    shape: fc.array(fc.nat(4), { maxLength: 3 }).map((sizes) => [...sizes, 8]),
  }),
  { selector: ({ name }) => name, maxLength: 8 },
);

/** A file with these tensors side by side, and its header's fields in the order of `shuffle`. */
function fileOf(specs: readonly { name: string; dtype: Dtype; shape: number[] }[], reverse: boolean): Uint8Array {
  let offset = 0;
  const fields = specs.map(({ name, dtype, shape }) => {
    const start = offset;
    offset += byteSize(dtype, shape);
    return [name, { dtype, shape, data_offsets: [start, offset] }] as const;
  });
  return safetensorsFile(Object.fromEntries(reverse ? fields.reverse() : fields), offset);
}

test("any tensors come back as they were written", () => {
  fc.assert(
    fc.property(tensorList, fc.boolean(), (specs, reverse) => {
      const file = fileOf(specs, reverse);
      const header = parse(file);
      expectConsistent(header, file.length);
      expect(new Map([...header.tensors].map(([name, { dtype, shape }]) => [name, { dtype, shape }]))).toEqual(
        new Map(specs.map(({ name, dtype, shape }) => [name, { dtype, shape }])),
      );
    }),
  );
});

test("corrupt bytes give an InputError or a consistent header, never anything else", () => {
  let refused = 0;
  let read = 0;
  // Bytes that mean something in JSON find more than random ones.
  const byte = fc.oneof(fc.nat(255), fc.constantFrom(...new TextEncoder().encode('{}[]",:\\0123456789-eE. ')));
  const edits = fc.array(fc.tuple(fc.nat(), byte), { minLength: 1, maxLength: 3 });
  const growths = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: -3, max: 3 }) });
  fc.assert(
    fc.property(tensorList, edits, growths, (specs, changes, growth) => {
      const original = fileOf(specs, false);
      const file = new Uint8Array(original.length + growth);
      file.set(original.subarray(0, file.length));
      const end = parse(original).end;
      for (const [at, value] of changes) file[at % Math.min(end, file.length)] = value;
      try {
        expectConsistent(parse(file), file.length);
        read++;
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        expect(error.message).toMatch(/^m\.safetensors: /);
        refused++;
      }
    }),
    { numRuns: 3000 },
  );
  expect(refused).toBeGreaterThan(1000);
  expect(read).toBeGreaterThan(0);
});
