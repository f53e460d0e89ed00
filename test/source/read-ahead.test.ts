import fc from "fast-check";
import { expect, test } from "vitest";
import { InputError } from "#src/errors.js";
import { ReadAhead } from "#src/source/read-ahead.js";
import { MemorySource } from "./memory-source.js";

const SIZE = 600;
const contents = (): Map<string, Uint8Array> => new Map(["a", "b"].map((file, f) => [file, Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + f * 13) % 251)]));

interface Range { file: string; start: number; end: number }

/** Ranges that have no byte in common, each in a step of its own choice. */
const steps = fc
  .array(fc.record({ length: fc.nat(40), gap: fc.nat(20), step: fc.nat(4) }), { maxLength: 30 })
  .map((pieces) => {
    const all: Range[][] = Array.from({ length: 5 }, () => []);
    const reached = { a: 0, b: 0 };
    for (const [i, { length, gap, step }] of pieces.entries()) {
      const file = i % 3 === 0 ? "b" : "a";
      const start = Math.min(SIZE, reached[file] + gap);
      const end = Math.min(SIZE, start + length);
      reached[file] = end;
      all[step].push({ file, start, end });
    }
    return all;
  });

const sizeOf = (ranges: readonly Range[]): number => ranges.reduce((sum, { start, end }) => sum + end - start, 0);
const asked = (reads: readonly string[]): Range[] => reads.map((read) => {
  const [file, range] = read.split(" ");
  const [start, end] = range.split("-").map(Number);
  return { file, start, end };
});
const turn = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve); });

test("gives the source's bytes, reads each byte once, and holds no more of later steps than it may", async () => {
  await fc.assert(
    fc.asyncProperty(steps, fc.nat(300), fc.nat(4), fc.array(fc.nat(1000), { minLength: 1, maxLength: 5 }), async (plan, memory, first, picks) => {
      const source = new MemorySource(contents());
      const ahead = new ReadAhead(source, plan, memory);
      expect(source.reads).toEqual([]);
      for (let step = first; step < plan.length; step += 1) {
        ahead.enter(step);
        // Everything that is under way has arrived; then what the step needs, whole and in parts, and more than once.
        for (let i = 0; i < 10; i += 1) await turn();
        const held = sizeOf(asked(source.reads));
        const upToNow = sizeOf(plan.slice(first, step + 1).flat());
        expect(held).toBeGreaterThanOrEqual(upToNow);
        expect(held - upToNow).toBeLessThanOrEqual(memory);
        for (const { file, start, end } of plan[step]) {
          for (const pick of picks) {
            const from = start + (pick % (end - start + 1));
            expect(await ahead.read(file, from, end)).toEqual(source.contents.get(file)!.slice(from, end));
          }
        }
      }
      const read = asked(source.reads).filter(({ start, end }) => start < end);
      const bytes = read.flatMap(({ file, start, end }) => Array.from({ length: end - start }, (_, i) => `${file} ${String(start + i)}`));
      expect(new Set(bytes).size).toBe(bytes.length);
      expect(bytes.length).toBe(sizeOf(plan.slice(first).flat()));
    }),
    { numRuns: 200 },
  );
});

test("fetches the next step while this one is at work, and neighbours together", async () => {
  const source = new MemorySource(contents());
  const ahead = new ReadAhead(source, [[{ file: "a", start: 0, end: 10 }, { file: "a", start: 10, end: 30 }], [{ file: "a", start: 40, end: 60 }], [{ file: "b", start: 0, end: 20 }]], 20);
  ahead.enter(0);
  await turn();
  expect(source.reads).toEqual(["a 0-30", "a 40-60"]);
  ahead.enter(1);
  await turn();
  expect(source.reads).toEqual(["a 0-30", "a 40-60", "b 0-20"]);
});

test("reads that were not announced go through, and so do those of a step that is over", async () => {
  const source = new MemorySource(contents());
  const ahead = new ReadAhead(source, [[{ file: "a", start: 0, end: 10 }], [{ file: "a", start: 10, end: 20 }]], 100);
  ahead.enter(1);
  expect(await ahead.read("a", 5, 12)).toEqual(source.contents.get("a")!.slice(5, 12));
  expect(await ahead.read("a", 10, 12)).toEqual(source.contents.get("a")!.slice(10, 12));
  expect(await ahead.read("a", 15, 25)).toEqual(source.contents.get("a")!.slice(15, 25));
  expect(source.reads.sort()).toEqual(["a 10-20", "a 15-25", "a 5-12"]);
});

test("what is handed out is a copy", async () => {
  const ahead = new ReadAhead(new MemorySource(contents()), [[{ file: "a", start: 0, end: 10 }]], 0);
  ahead.enter(0);
  (await ahead.read("a", 0, 10)).fill(0);
  expect(await ahead.read("a", 0, 10)).toEqual(contents().get("a")!.slice(0, 10));
});

test("a read that fails is the error of who needs it, and of nobody else", async () => {
  const source = new MemorySource(contents());
  const ahead = new ReadAhead(source, [[{ file: "a", start: 0, end: 10 }], [{ file: "missing", start: 0, end: 10 }]], 100);
  ahead.enter(0);
  await turn();
  expect((await ahead.read("a", 0, 10)).length).toBe(10);
  ahead.enter(1);
  await expect(ahead.read("missing", 2, 4)).rejects.toThrow(new InputError("missing is missing or short"));
});

test("asks for nothing more once it is closed", async () => {
  const source = new MemorySource(contents());
  const ahead = new ReadAhead(source, Array.from({ length: 9 }, (_, i) => [{ file: "a", start: 20 * i, end: 20 * i + 10 }]), 1000);
  ahead.enter(0);
  ahead.close();
  for (let i = 0; i < 20; i += 1) await turn();
  // Those that were under way.
  expect(source.reads.length).toBeLessThanOrEqual(4);
});
