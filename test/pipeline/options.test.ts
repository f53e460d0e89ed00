import { expect, it } from "vitest";
import { QUALITIES, resolveSettings, type QuantizeSettings } from "#src/pipeline/options.js";

it("fills in what an expert would choose", () => {
  expect(resolveSettings({})).toEqual({
    method: "gptq", bits: 4, groupSize: undefined, format: "gptq", alsoIn: [], symmetric: true, kQuant: false, order: "group-aware", damp: 0.01, shrink: 0.1,
    ...QUALITIES.balanced, keep: [], bitsFor: [], targetBits: undefined, lmHead: undefined, embeddings: undefined,
    samples: 128, sequenceLength: undefined, seed: 0, maxShardSize: 5e9, memory: 2e9,
  });
});

it.each<[object, string]>([
  [{ method: "awq" }, "method is awq; it may be gptq, rtn"],
  [{ bits: 5 }, "bits is 5; it may be 2, 3, 4, 6, 8"],
  [{ bitsFor: [{ pattern: "*.v_proj", bits: 8 }, { pattern: "*.o_proj", bits: 7 }] }, 'bits for "*.o_proj" is 7; it may be 2, 3, 4, 6, 8'],
  [{ targetBits: 1 }, "target bits is 1; it must lie above 1 and be at most 32"],
  [{ targetBits: Number.NaN }, "target bits is NaN; it must lie above 1 and be at most 32"],
  [{ quality: "superb" }, "quality is superb; it may be fast, balanced, best"],
  [{ refine: -1 }, "refine is -1; it must be a whole number of at least 0"],
  [{ groupSize: 100 }, "group size is 100; it may be -1, 32, 64, 128"],
  [{ order: "random" }, "order is random; it may be natural, group-aware, act"],
  [{ damp: 0 }, "damp is 0; it must lie above 0 and be at most 1"],
  [{ damp: Number.NaN }, "damp is NaN; it must lie above 0 and be at most 1"],
  [{ shrink: -0.1 }, "shrink is -0.1; it must lie between 0 and 10"],
  [{ samples: 1.5 }, "samples is 1.5; it must be a whole number of at least 1"],
  [{ sequenceLength: 1 }, "sequence length is 1; it must be a whole number of at least 2"],
  [{ seed: -1 }, "seed is -1; it must be a whole number of at least 0"],
  [{ maxShardSize: 0 }, "max shard size is 0; it must be a whole number of at least 1"],
  [{ memory: -5 }, "memory is -5; it must be a whole number of at least 0"],
])("refuses %j", (settings, message) => {
  expect(() => resolveSettings(settings as QuantizeSettings)).toThrow(message);
});
