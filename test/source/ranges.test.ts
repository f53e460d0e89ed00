import fc from "fast-check";
import { expect, test } from "vitest";
import { chunksOf, joinRanges } from "#src/source/ranges.js";

const KIB = 1024;
const MIB = 1024 * KIB;

test("ranges side by side, or nearly, become one read", () => {
  const [a, b, c] = [{ start: 0, end: 10 }, { start: 10, end: 20 }, { start: 20 + 64 * KIB, end: 20 + 65 * KIB }];
  expect(joinRanges([c, a, b])).toEqual([{ start: 0, end: c.end, parts: [a, b, c] }]);
});

test("a wider gap is left unread", () => {
  const ranges = [{ start: 0, end: 10 }, { start: 11 + 64 * KIB, end: 70 * KIB }];
  expect(joinRanges(ranges).map(({ start, end }) => ({ start, end }))).toEqual(ranges);
});

test("reads end at 64 MiB, except for one larger range", () => {
  const ranges = [{ start: 0, end: 40 * MIB }, { start: 40 * MIB, end: 64 * MIB }, { start: 64 * MIB, end: 65 * MIB }, { start: 65 * MIB, end: 200 * MIB }];
  expect(joinRanges(ranges).map(({ start, end }) => [start / MIB, end / MIB])).toEqual([[0, 64], [64, 65], [65, 200]]);
});

test("every range is part of one read that covers it, and reads do not overlap where ranges do not", () => {
  const range = fc.tuple(fc.nat(10 * MIB), fc.nat(MIB)).map(([start, length]) => ({ start, end: start + length }));
  fc.assert(
    fc.property(fc.array(range), (ranges) => {
      const joined = joinRanges(ranges);
      expect(new Set(joined.flatMap(({ parts }) => parts))).toEqual(new Set(ranges));
      expect(joined.flatMap(({ parts }) => parts)).toHaveLength(ranges.length);
      for (const { start, end, parts } of joined) {
        expect(start).toBe(Math.min(...parts.map((part) => part.start)));
        expect(end).toBe(Math.max(...parts.map((part) => part.end)));
      }
      for (let i = 1; i < joined.length; i++) expect(joined[i].start).toBeGreaterThan(joined[i - 1].end + 64 * KIB);
    }),
  );
});

test("chunks hold every byte of the ranges once, and no other, and none is larger than asked for", () => {
  const range = fc.record({ file: fc.constantFrom("a", "b"), start: fc.nat(300), length: fc.nat(60) }).map(({ file, start, length }) => ({ file, start, end: start + length }));
  fc.assert(
    fc.property(fc.array(range), fc.integer({ min: 1, max: 50 }), (ranges, maxBytes) => {
      const bytesOf = (all: readonly { file: string; start: number; end: number }[]): string[] =>
        all.flatMap(({ file, start, end }) => Array.from({ length: end - start }, (_, i) => `${file} ${start + i}`)).sort();
      const chunks = chunksOf(ranges, maxBytes);
      expect(bytesOf(chunks)).toEqual([...new Set(bytesOf(ranges))].sort());
      for (const { start, end } of chunks) expect(end - start).toBeLessThanOrEqual(maxBytes);
    }),
  );
});

test("chunks are as few as can be", () => {
  const ranges = [{ file: "a", start: 20, end: 25 }, { file: "a", start: 0, end: 12 }, { file: "b", start: 3, end: 4 }, { file: "a", start: 12, end: 20 }, { file: "a", start: 26, end: 27 }];
  expect(chunksOf(ranges, 10)).toEqual([
    { file: "a", start: 0, end: 10 }, { file: "a", start: 10, end: 20 }, { file: "a", start: 20, end: 25 }, { file: "a", start: 26, end: 27 }, { file: "b", start: 3, end: 4 },
  ]);
});
