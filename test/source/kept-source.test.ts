import fc from "fast-check";
import { expect, test } from "vitest";
import { KeptSource, type KeepingFile } from "#src/source/kept-source.js";
import { MemorySource } from "./memory-source.js";

const SIZE = 600;
const contents = (): Map<string, Uint8Array> => new Map(["a", "b"].map((file, f) => [file, Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + f * 13) % 251)]));

/** A file in memory that grows; `written` counts bytes. */
function memoryFile(): KeepingFile & { written: number } {
  const bytes = new Uint8Array(100 * SIZE);
  return {
    written: 0,
    write(offset, part) {
      bytes.set(part, offset);
      this.written += part.length;
      return Promise.resolve();
    },
    read(offset, into) {
      into.set(bytes.subarray(offset, offset + into.length));
      return Promise.resolve();
    },
  };
}

const ranges = fc.array(fc.record({ file: fc.constantFrom("a", "b"), start: fc.nat(SIZE), length: fc.nat(80) }).map(({ file, start, length }) => ({ file, start, end: Math.min(SIZE, start + length) })), { maxLength: 25 });

test("gives the source's bytes, whatever is held of them, and asks for none that are", async () => {
  await fc.assert(
    fc.asyncProperty(ranges, fc.nat(24), async (reads, at) => {
      const source = new MemorySource(contents());
      const kept = new KeptSource(source, memoryFile());
      const expectSame = async ({ file, start, end }: (typeof reads)[number]): Promise<void> => { expect(await kept.read(file, start, end)).toEqual(source.contents.get(file)!.slice(start, end)); };
      // Some one by one, the others at once.
      for (const read of reads.slice(0, at)) await expectSame(read);
      await Promise.all(reads.slice(at).map(expectSame));
      const asked = source.reads.length;
      for (const read of reads.filter(({ start, end }) => end > start)) await expectSame(read);
      expect(source.reads.length).toBe(asked);
    }),
  );
});

test("reads what is missing between in one, and once", async () => {
  const source = new MemorySource(contents());
  const file = memoryFile();
  const kept = new KeptSource(source, file);
  for (const [start, end] of [[10, 20], [40, 50], [0, 100]] as const) await kept.read("a", start, end);
  expect(source.reads).toEqual(["a 10-20", "a 40-50", "a 0-100"]);
  expect(file.written).toBe(100);
  await kept.read("a", 90, 120);
  expect(source.reads.slice(3)).toEqual(["a 100-120"]);
});

test("keeps nothing that did not come over the network", async () => {
  const source = new MemorySource(contents());
  let bytes = 0;
  const cached = Object.assign(source, { hub: { repo: "org/name", commit: "c", bytesRead: () => bytes } });
  const file = memoryFile();
  const kept = new KeptSource(cached, file);
  await kept.read("a", 0, 10);
  expect(file.written).toBe(0);
  const read = source.read.bind(source);
  source.read = (path, start, end) => {
    bytes += end - start;
    return read(path, start, end);
  };
  await kept.read("a", 0, 10);
  expect(file.written).toBe(10);
});

test("keeps no more once nobody will ask again, and still has what it kept", async () => {
  const source = new MemorySource(contents());
  const file = memoryFile();
  const kept = new KeptSource(source, file);
  await kept.read("a", 0, 10);
  const left = kept.keepNoMore();
  expect(left).toEqual({ size: 10, ranges: [{ file: "a", start: 0, end: 10, at: 0 }] });
  await kept.read("b", 0, 10);
  await kept.read("a", 5, 15);
  expect(file.written).toBe(10);
  expect(source.reads).toEqual(["a 0-10", "b 0-10", "a 10-15"]);
  const next = new KeptSource(source, file, left.ranges);
  expect(await next.read("a", 2, 12)).toEqual(source.contents.get("a")!.slice(2, 12));
  expect(source.reads.at(-1)).toBe("a 10-12");
  expect(file.written).toBe(10);
});
