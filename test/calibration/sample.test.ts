import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { buildCalibrationSet as buildOfTexts, sequencesOf, type SampleOptions } from "#src/calibration/sample.js";
import { joinedTurns, type Document, type Turn } from "#src/calibration/documents.js";
import type { Tokenizer } from "#src/calibration/tokenizer.js";
import { InputError } from "#src/errors.js";

const BOS = 0;
/** A token a UTF-16 code unit, after a beginning-of-sequence token; remembers what it was given. */
function letters(): Tokenizer & { readonly seen: string[] } {
  const seen: string[] = [];
  return {
    seen,
    encode(text, { addSpecialTokens }) {
      seen.push(text);
      const ids = Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));
      return Uint32Array.from(addSpecialTokens ? [BOS, ...ids] : ids);
    },
  };
}

const options = { samples: 3, sequenceLength: 4, seed: 0, origin: "test.txt", vocabSize: 65536 };
const buildCalibrationSet = (documents: readonly string[], tokenizer: Tokenizer, { origin, ...rest }: SampleOptions & { readonly origin: string }) => buildOfTexts([{ origin, documents }], tokenizer, rest);
const flat = (sequences: readonly Uint32Array[]) => sequences.flatMap((sequence) => [...sequence]);
/** Token stream back to documents. */
const documentsIn = (ids: readonly number[]) => String.fromCharCode(...ids).split("\0").slice(1);

describe("buildCalibrationSet", () => {
  it("packs documents end to end, each after its own bos", async () => {
    const set = await buildCalibrationSet(["abcdefg"], letters(), { ...options, samples: 2 });
    expect(set.sequences).toEqual([[BOS, 97, 98, 99], [100, 101, 102, 103]].map((ids) => Uint32Array.from(ids)));
    expect(set).toMatchObject({ origin: "test.txt", documents: 1, tokens: 8 });
  });

  it("loses and repeats nothing, whatever the lengths", async () => {
    const documents = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c", "d"), minLength: 1, maxLength: 30 }), { minLength: 1, maxLength: 12 });
    const setup = fc.record({ samples: fc.integer({ min: 1, max: 12 }), sequenceLength: fc.integer({ min: 2, max: 40 }), seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }) });
    await fc.assert(fc.asyncProperty(documents, setup, async (texts, chosen) => {
      const { samples, sequenceLength } = chosen;
      const tokenizer = letters();
      const set = await buildCalibrationSet(texts, tokenizer, { ...options, ...chosen });
      const wanted = samples * sequenceLength;
      const there = texts.reduce((sum, text) => sum + text.length + 1, 0);
      const all = flat(set.sequences);

      // What came out is the beginning of the chosen documents, end to end; at most a single token of the rest is left.
      expect(all).toEqual(Array.from("\0" + tokenizer.seen.join("\0"), (c) => c.charCodeAt(0)).slice(0, all.length));
      const rest = Math.min(wanted, there) % sequenceLength;
      expect(all).toHaveLength(Math.min(wanted, there) - (rest === 1 ? 1 : 0));
      expect(set.tokens).toBe(all.length);
      expect(set.sequences.slice(0, -1).every((sequence) => sequence.length === sequenceLength)).toBe(true);
      expect(set.sequences.length).toBeLessThanOrEqual(samples);

      // Documents are taken once each, as they are, and no more of them than are needed.
      expect(set.documents).toBe(tokenizer.seen.length);
      const left = [...texts];
      for (const text of tokenizer.seen) left.splice(left.indexOf(text), 1);
      expect(left).toHaveLength(texts.length - tokenizer.seen.length);
      const before = tokenizer.seen.slice(0, -1).reduce((sum, text) => sum + text.length + 1, 0);
      expect(before).toBeLessThan(wanted);
      expect(set.sha256).toBe(createHash("sha256").update(Uint32Array.from(all)).digest("hex"));
    }), { numRuns: 300 });
  });

  it("orders documents by the seed alone", async () => {
    const texts = Array.from({ length: 20 }, (_, i) => String.fromCharCode(97 + i));
    const order = async (seed: number) => documentsIn(flat((await buildCalibrationSet(texts, letters(), { ...options, samples: 10, seed })).sequences)).join("");
    // The orders themselves are the interface: the same command must give the same bytes in every release. They were made by another
    // program, in Python, from the definitions of Mulberry32 and of Fisher and Yates's shuffle.
    expect(await order(0)).toBe("mkbldrjpsqgtnoihceaf");
    expect(await order(1)).toBe("dgnlshcbtokfriepqjam");
    expect(await order(2 ** 32 - 1)).toBe("ptaeshfclokbgjinqmdr");
  });

  it("puts each document first about equally often", async () => {
    const counts = new Map<string, number>();
    for (let seed = 0; seed < 3000; seed++) {
      const tokenizer = letters();
      await buildCalibrationSet(["aaa", "bbb", "ccc"], tokenizer, { ...options, samples: 1, seed });
      counts.set(tokenizer.seen[0], (counts.get(tokenizer.seen[0]) ?? 0) + 1);
    }
    // Five standard deviations of a binomial about 1000.
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(5 * Math.sqrt(3000 * (1 / 3) * (2 / 3)));
    expect(counts.size).toBe(3);
  });

  it("encodes of a huge document only what it needs, in parts that end with a line", async () => {
    const line = "x".repeat(999) + "\n";
    const tokenizer = letters();
    const set = await buildCalibrationSet([line.repeat(5000)], tokenizer, { ...options, samples: 3, sequenceLength: 500_000 });
    expect(tokenizer.seen.map((part) => part.length)).toEqual([1_048_000, 1_048_000]);
    expect(set).toMatchObject({ documents: 1, tokens: 1_500_000 });
    expect(flat(set.sequences).filter((id) => id === BOS)).toHaveLength(1);
  });

  it("cuts a huge document without lines at spaces, or else between characters", async () => {
    const parts = async (document: string) => {
      const tokenizer = letters();
      await buildCalibrationSet([document], tokenizer, { ...options, samples: 1, sequenceLength: 4_000_000 });
      expect(tokenizer.seen.join("")).toBe(document);
      return tokenizer.seen.map((part) => part.length);
    };
    expect(await parts("spaces ".repeat(200_000))).toEqual([1_048_571, 351_429]);
    expect(await parts("🙂".repeat(600_000))).toEqual([2 ** 20, 151_424]);
    expect(await parts("a" + "🙂".repeat(600_000))).toEqual([2 ** 20 - 1, 151_426]);
  });

  it("says by number which token the model does not have", async () => {
    await expect(buildCalibrationSet(["abz"], letters(), { ...options, vocabSize: 100 })).rejects.toThrow(
      new InputError("tokenizer.json gives token 122 on test.txt, but the model's vocabulary ends at 99: the tokenizer belongs to another model"),
    );
  });

  it.each<[Partial<typeof options>, string]>([
    [{ samples: 0 }, "The number of samples must be an integer from 1 to 2147483647, not 0"],
    [{ samples: 1.5 }, "The number of samples must be an integer from 1 to 2147483647, not 1.5"],
    [{ sequenceLength: 1 }, "The sequence length must be an integer from 2 to 2147483647, not 1"],
    [{ seed: -1 }, "The seed must be an integer from 0 to 4294967295, not -1"],
    [{ seed: 2 ** 32 }, "The seed must be an integer from 0 to 4294967295, not 4294967296"],
  ])("refuses %j", async (wrong, message) => {
    await expect(buildCalibrationSet(["abc"], letters(), { ...options, ...wrong })).rejects.toThrow(new InputError(message));
  });

  it("refuses text that makes no sequence", async () => {
    await expect(buildCalibrationSet([], letters(), options)).rejects.toThrow(new InputError("test.txt: too little text to calibrate on"));
    await expect(buildCalibrationSet([""], letters(), options)).rejects.toThrow(new InputError("test.txt: too little text to calibrate on"));
  });
});

describe("several texts", () => {
  const drawn = (all: readonly Document[], log: string[] = []): AsyncIterable<Document> => ({
    [Symbol.asyncIterator]: async function* () {
      try {
        for (const document of all) {
          log.push(joinedTurns(document));
          yield await Promise.resolve(document);
        }
      } finally {
        log.push("closed");
      }
    },
  });
  const sized = { ...options, samples: 4, sequenceLength: 10 };

  it("give about the same number of tokens each, and what one lacks is taken of the others", async () => {
    const texts = [{ origin: "a", documents: drawn(["aaa", "aaaa"]) }, { origin: "b", documents: drawn(Array.from({ length: 20 }, () => "b")) }, { origin: "c", documents: ["cccccccccc"] }];
    const set = await buildOfTexts(texts, letters(), sized);
    expect(String.fromCharCode(...flat(set.sequences))).toBe("\0aaa\0b\0cccccccccc\0b\0aaaa\0b\0b\0b\0b\0b\0b\0b\0b");
    expect(set).toMatchObject({
      origin: "a,b,c", documents: 13, tokens: 40,
      parts: [{ origin: "a", documents: 2, tokens: 9 }, { origin: "b", documents: 10, tokens: 20 }, { origin: "c", documents: 1, tokens: 11 }],
    });
  });

  it("give their shares however long their documents are", async () => {
    const set = await buildOfTexts([{ origin: "a", documents: drawn(["a".repeat(100)]) }, { origin: "b", documents: drawn(["bb", "bb", "b".repeat(100), "bb"]) }, { origin: "c", documents: ["c"] }], letters(), sized);
    expect(String.fromCharCode(...flat(set.sequences))).toBe(`\0${"a".repeat(13)}\0bb\0c\0bb\0${"b".repeat(12)}\0bb`);
    expect(set.parts.map(({ tokens }) => tokens)).toEqual([14, 22, 2]);
  });

  it("are drawn no further than is needed, and closed", async () => {
    const log: string[] = [];
    const set = await buildOfTexts([{ origin: "a", dataSet: { repo: "org/a", commit: "1" }, documents: drawn(["123456", "789012", "x", "y"], log) }], letters(), { ...sized, samples: 1 });
    expect(log).toEqual(["123456", "789012", "closed"]);
    expect(set.parts).toEqual([{ origin: "a", dataSet: { repo: "org/a", commit: "1" }, documents: 2, tokens: 10 }]);
    log.length = 0;
    await expect(buildOfTexts([{ origin: "a", documents: drawn(["zzz"], log) }], letters(), { ...sized, vocabSize: 100 })).rejects.toThrow(InputError);
    expect(log).toEqual(["zzz", "closed"]);
  });

  it("of conversations go through the model's template, without special tokens beside its own", async () => {
    let asked = 0;
    const chatTemplate = () => {
      asked++;
      return Promise.resolve({
        render: (turns: readonly Turn[]) => {
          if (turns[0].role === "system") throw new Error("no system");
          return turns.map(({ role, content }) => `<${role!}>${content}`).join("");
        },
      });
    };
    const documents = ["plain", [{ role: "user", content: "q" }, { role: "assistant", content: "a" }], [{ role: "system", content: "s" }, { role: "user", content: "u" }]];
    const set = await buildOfTexts([{ origin: "a", documents: drawn(documents) }], letters(), { ...sized, chatTemplate });
    expect(String.fromCharCode(...flat(set.sequences))).toBe("\0plain<user>q<assistant>a\0s\n\nu");
    expect(set.parts[0].conversations).toEqual({ all: 2, templated: 1, refusal: "no system" });
    expect(asked).toBe(1);
    const joined = await buildOfTexts([{ origin: "a", documents: drawn(documents.slice(1, 2)) }], letters(), sized);
    expect(String.fromCharCode(...flat(joined.sequences))).toBe("\0q\n\na");
    expect(joined.parts[0].conversations).toEqual({ all: 1, templated: 0 });
    // Text alone needs no template.
    await buildOfTexts([{ origin: "a", documents: ["plain"] }], letters(), { ...sized, chatTemplate });
    expect(asked).toBe(1);
  });
});

describe("sequencesOf", () => {
  const measured = (text: string, length: number) => sequencesOf(text, letters(), { length, vocabSize: 128, origin: "test.txt" }).map((window) => [...window]);

  it("cuts the whole text, after one bos, in windows from the start", () => {
    expect(measured("abcdefgh", 3)).toEqual([[BOS, 97, 98], [99, 100, 101], [102, 103, 104]]);
    expect(measured("abcd", 3)).toEqual([[BOS, 97, 98], [99, 100]]);
  });

  it("leaves out a last window of one token, which predicts nothing", () => {
    expect(measured("abc", 3)).toEqual([[BOS, 97, 98]]);
  });

  it("refuses what it cannot measure on", () => {
    expect(measured("", 3)).toEqual([]);
    expect(() => measured("ü", 3)).toThrow(
      new InputError("tokenizer.json gives token 252 on test.txt, but the model's vocabulary ends at 127: the tokenizer belongs to another model"),
    );
  });
});
