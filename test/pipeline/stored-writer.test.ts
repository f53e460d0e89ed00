import fc from "fast-check";
import { expect, it } from "vitest";
import type { Stored } from "#src/formats/format.js";
import { ShardWriter } from "#src/pipeline/shard-writer.js";
import type { Sink } from "#src/pipeline/sink.js";
import { StoredWriter } from "#src/pipeline/stored-writer.js";

/** Doubles the number of bytes: each unit behind its reverse. */
const mirrored = (name: string, unit: number, bytes: number): Stored => ({
  spec: { name, dtype: "U8", shape: [2 * bytes] }, unit,
  convert: (given) => Uint8Array.from(Array.from({ length: given.length / unit }, (_, i) => [...given.slice(i * unit, (i + 1) * unit)]).flatMap((one) => [...one].reverse().concat(one))),
});

it("converts whole units, whatever the pieces in which they come, and leaves out what is not stored", async () => {
  await fc.assert(fc.asyncProperty(
    fc.record({ unit: fc.integer({ min: 1, max: 7 }), units: fc.integer({ min: 0, max: 9 }), cuts: fc.array(fc.nat(63), { maxLength: 6 }) }),
    async ({ unit, units, cuts }) => {
      const bytes = Uint8Array.from({ length: unit * units }, (_, i) => i + 1);
      const stored = mirrored("a", unit, bytes.length);
      const file = new Uint8Array(4 + 2 * bytes.length);
      const sink = {
        writeShard(_: string, offset: number, part: Uint8Array) { file.set(part, offset); return Promise.resolve(); },
        hash: () => Promise.resolve(undefined),
        finishShard: () => Promise.resolve("hash"),
      } as unknown as Sink;
      const shards = new ShardWriter(sink, [{ file: "f", header: Uint8Array.of(9, 9, 9, 9), tensors: [{ ...stored.spec, start: 4, end: file.length }], size: file.length }]);
      const writer = new StoredWriter(shards, new Map([["a", stored]]));
      await writer.take("left out", Uint8Array.of(1, 2, 3));
      const ends = [...new Set([...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b);
      let from = 0;
      for (const to of ends) {
        expect(await shards.finish()).toEqual([]);
        await writer.take("a", bytes.slice(from, to));
        from = to;
      }
      expect([...file]).toEqual([9, 9, 9, 9, ...stored.convert(bytes)]);
      expect(await shards.finish()).toEqual([{ file: "f", size: file.length, sha256: "hash" }]);
    },
  ));
});
