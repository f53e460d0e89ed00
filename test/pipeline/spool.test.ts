import fc from "fast-check";
import { expect, it } from "vitest";
import type { Activations } from "#src/engine/engine.js";
import type { ScratchFile } from "#src/pipeline/sink.js";
import { MemoryBudget, Spool } from "#src/pipeline/spool.js";
import { openSpillFile } from "#src/pipeline/spill-file.js";

const activations = (tokens: number, width: number, seed: number): Activations => ({
  batch: 1, tokens, width, data: Float32Array.from({ length: tokens * width }, (_, i) => Math.sin(seed + i)),
});

it("gives back every batch as it was put, whatever fits in memory", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 }), fc.integer({ min: 0, max: 4000 }), fc.boolean(), async (tokens, limit, durable) => {
      const budget = new MemoryBudget(limit);
      const spool = new Spool(budget, 9 * (3 + 5) * 4, openSpillFile, durable);
      const batches = tokens.map((count, i) => ({ h: activations(count, 3, i), m: activations(count, 5, -i) }));
      for (const [i, batch] of batches.entries()) await spool.put(i, { h: { ...batch.h, data: batch.h.data.slice() }, m: { ...batch.m, data: batch.m.data.slice() } });
      expect(budget.peak).toBeLessThanOrEqual(limit);
      for (const [i, batch] of batches.entries()) expect(await spool.take(i)).toEqual(batch);
      await spool.close();
    }),
    { numRuns: 40 },
  );
});

it("opens no file while memory lasts, unless it must endure", async () => {
  const none = (): Promise<ScratchFile> => Promise.reject(new Error("a file was asked for"));
  const spool = new Spool(new MemoryBudget(1000), 100, none);
  await spool.put(0, { h: activations(4, 4, 1) });
  expect((await spool.take(0))["h"].data).toHaveLength(16);
  await expect(new Spool(new MemoryBudget(1000), 100, none, true).put(0, { h: activations(4, 4, 1) })).rejects.toThrow("a file was asked for");
});

it("frees the memory of what is taken", async () => {
  const budget = new MemoryBudget(64);
  const spool = new Spool(budget, 64, openSpillFile);
  expect(await spool.put(0, { h: activations(4, 4, 1) })).toEqual([]);
  expect(await spool.put(1, { h: activations(4, 4, 2) })).toHaveLength(1);
  await spool.take(0);
  expect(spool.isInMemory(0)).toBe(false);
  expect(await spool.put(2, { h: activations(4, 4, 3) })).toEqual([]);
  await spool.close();
});
