import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import type { Document } from "#src/calibration/documents.js";
import type { TextSource } from "#src/calibration/sample.js";
import { InputError } from "#src/errors.js";
import { calibrationTexts, evaluationText, type TextPlaces } from "#src/pipeline/calibration-text.js";
import type { DataSetFiles } from "#src/source/data-set-files.js";
import { namedDataSets } from "#src/source/text-files.js";
import { dataSetOf, fixture, take } from "../source/data-set-fixtures.js";

const LOCAL: Readonly<Record<string, string>> = { "mine.txt": "my own text", "a,b.txt": "a comma", "org/local": "a local text" };
const packed = (texts: readonly string[]) => new Uint8Array(gzipSync(texts.map((text) => JSON.stringify({ text })).join("\n")));
const HUB: Readonly<Record<string, DataSetFiles>> = {
  "allenai/c4": dataSetOf({ "en/c4-train.00000-of-01024.json.gz": packed(["web 1", "web 2"]), "en/c4-validation.00000-of-00008.json.gz": packed(["not this"]) }),
  "Salesforce/wikitext": dataSetOf({ "wikitext-103-raw-v1/train-00000-of-00002.parquet": fixture("lines.parquet"), "wikitext-103-raw-v1/test-00000-of-00001.parquet": fixture("texts.parquet") }),
  "HuggingFaceH4/ultrachat_200k": dataSetOf({ "data/train_sft-00000-of-00003.parquet": fixture("chats.parquet"), "data/train_gen-00000-of-00003.parquet": fixture("texts.parquet") }),
  "ise-uiuc/Magicoder-OSS-Instruct-75K": dataSetOf({ "data-oss_instruct-decontaminated.jsonl": `${JSON.stringify({ lang: "c", problem: "p", solution: "s" })}\n` }),
  "wikimedia/wikipedia": dataSetOf({ "20231101.sw/train-00000-of-00001.parquet": fixture("texts.parquet"), "20231101.simple/train-00000-of-00001.parquet": fixture("chats.parquet") }),
  "org/set": dataSetOf({ "en/train.jsonl": `{"text":"one"}`, "de/train.jsonl": `{"text":"eins"}`, "de/test.jsonl": `{"text":"zwei"}` }),
  "org/moved": dataSetOf({ "README.md": "" }),
};
const places = (hub = HUB): TextPlaces & { readonly asked: unknown[][] } => {
  const asked: unknown[][] = [];
  return {
    asked,
    isThere: (path) => Promise.resolve(path in LOCAL),
    readTextFiles: (path) => Promise.resolve([{ name: path, text: LOCAL[path] }]),
    builtin: () => Promise.resolve([{ name: "built-in x.txt", text: "built in" }]),
    named: namedDataSets,
    dataSet: (...given) => {
      asked.push(given);
      const [repo] = given;
      return repo in hub ? Promise.resolve(hub[repo]) : Promise.reject(new InputError(`https://hub/datasets/${repo}: there is no such data set`));
    },
  };
};
const of = async (choice: string | undefined, onHub = false, at = places()) => calibrationTexts(choice, onHub, at, 0);
const documentsOf = async ({ documents }: TextSource): Promise<Document[]> => (Symbol.asyncIterator in documents ? take(documents) : [...documents]);
const read = async (choice: string) => Promise.all((await of(choice)).texts.map(documentsOf));
const commit = "0123abcd".repeat(5);

describe("a choice", () => {
  it("is a file of the user's, the built-in text, or several texts", async () => {
    expect(await of("mine.txt")).toEqual({ texts: [{ origin: "mine.txt", documents: ["my own text"] }] });
    expect(await of("builtin")).toEqual({ texts: [{ origin: "the built-in text", documents: ["built in"] }] });
    expect((await of("builtin, mine.txt,c4")).texts.map(({ origin, dataSet }) => [origin, dataSet])).toEqual([["builtin", undefined], ["mine.txt", undefined], ["c4", { repo: "allenai/c4", commit }]]);
  });

  it("is a file before it is anything else that its name could mean", async () => {
    expect(await read("a,b.txt")).toEqual([["a comma"]]);
    expect(await read("org/local")).toEqual([["a local text"]]);
  });

  it("is a named set, of the files that its entry means", async () => {
    const at = places();
    expect((await of("c4", false, at)).texts).toMatchObject([{ origin: "c4", dataSet: { repo: "allenai/c4", commit } }]);
    expect(at.asked).toEqual([["allenai/c4", undefined, "en"]]);
    expect(await read("c4")).toEqual([["web 1", "web 2"]]);
    expect(await read("code")).toEqual([[[{ role: "user", content: "p" }, { role: "assistant", content: "s" }]]]);
    const [wiki, chat, multilingual] = await read("wikitext,chat,multilingual");
    expect(wiki).toHaveLength(7);
    expect(wiki.every((text) => /^ = Article \d = \n/.test(text as string))).toBe(true);
    expect(chat).toHaveLength(24);
    expect(multilingual).toHaveLength(59);
  });

  it("is a data set, its config and its split", async () => {
    expect(await read("org/set:de")).toEqual([["eins"]]);
    expect(await read("org/set:de/test")).toEqual([["zwei"]]);
    const at = places();
    expect((await of("org/set@v1:en", false, at)).texts).toMatchObject([{ origin: "org/set@v1:en", dataSet: { repo: "org/set", commit } }]);
    expect(at.asked).toEqual([["org/set", "v1"]]);
  });

  it.each([
    ["c5", `calibration is "c5", which is no file or folder, no data set on the Hub (org/name[:config][/split]), and none of these:
  builtin       the text that comes with Shardsmith
  c4            English web pages, cleaned: what GPTQ and its successors calibrate on
  wikitext      good English Wikipedia articles, put together from their lines
  chat          English conversations with an assistant, through the model's chat template
  code          programming problems with their solutions, in Python, C++, Java, TypeScript, Rust and others, through the model's chat template
  multilingual  Wikipedia articles in 16 languages and ten scripts`],
    ["c4,c4", `calibration names "c4" twice`],
    ["org/none", "org/none: no such file or folder, and as a data set on the Hub: https://hub/datasets/org/none: there is no such data set"],
    ["org/set", "org/set@0123abcd: holds several configs; choose one, as org/set:de (de, en)"],
    ["org/moved", "org/set@0123abcd: has no Parquet or JSONL files (.parquet, .jsonl, .json, .jsonl.gz, .json.gz); the Hub's own conversion, where there is one, is org/set@refs%2Fconvert%2Fparquet"],
  ])("that cannot be met is refused: %s", async (choice, message) => {
    await expect(of(choice)).rejects.toThrow(new InputError(message));
  });

  it.each(["", "c4,", "../nowhere.txt"])("that is no name is refused: %j", async (choice) => {
    await expect(of(choice)).rejects.toThrow(/^calibration is "(|\.\.\/nowhere\.txt)", which is no file or folder, /);
  });

  it("of a named set whose files have other names now is refused", async () => {
    await expect(of("c4", false, places({ "allenai/c4": dataSetOf({ "en/new.parquet": "" }) }))).rejects.toThrow(
      new InputError("org/set@0123abcd: has no file en/c4-train.*.json.gz, which c4 stands for; choose another set, or name this one as allenai/c4[:config][/split]"),
    );
  });
});

describe("a text to measure on", () => {
  const measured = async (name?: string, at = places()) => {
    const text = await evaluationText(name, at);
    return { ...text, documents: await documentsOf(text) };
  };

  it("is the built-in one, a file of the user's, or a data set", async () => {
    expect(await measured()).toEqual({ origin: "the built-in text", documents: ["built in"] });
    expect(await measured("a,b.txt")).toEqual({ origin: "a,b.txt", documents: ["a comma"] });
    expect(await measured("org/set:de/test")).toEqual({ origin: "org/set:de/test", dataSet: { repo: "org/set", commit }, documents: ["zwei"] });
  });

  it("is the part of a named set that is held out, where there is one", async () => {
    expect(await measured("c4")).toEqual({ origin: "c4", dataSet: { repo: "allenai/c4", commit }, documents: ["not this"] });
    expect((await measured("code")).documents).toHaveLength(1);
    await expect(measured("chat")).rejects.toThrow(new InputError("org/set@0123abcd: has no file data/test_sft-*.parquet, which chat stands for; choose another set, or name this one as HuggingFaceH4/ultrachat_200k[:config][/split]"));
  });

  it("is refused by its name where it is nothing of this", async () => {
    await expect(measured("c5")).rejects.toThrow(/^text is "c5", which is no file or folder, no data set on the Hub/);
    await expect(measured("c4,code")).rejects.toThrow(/^text is "c4,code", which is no file/);
  });
});

describe("without a choice", () => {
  it("a model in a folder is calibrated on the built-in text", async () => {
    const at = places();
    expect(await of(undefined, false, at)).toEqual({ texts: [{ origin: "the built-in text", documents: ["built in"] }] });
    expect(at.asked).toEqual([]);
  });

  it("a model on a Hub is calibrated on C4, and it says why", async () => {
    const { texts, why, warnings } = await of(undefined, true);
    expect({ texts, why, warnings }).toMatchObject({
      texts: [{ origin: "c4", dataSet: { repo: "allenai/c4", commit } }],
      why: "the model comes from a Hub, where text of the kind that most models are calibrated on can be had as well; --calibration builtin takes the text that comes with Shardsmith",
      warnings: undefined,
    });
    expect(await documentsOf(texts[0])).toEqual(["web 1", "web 2"]);
  });

  it.each<[string, Readonly<Record<string, DataSetFiles>>, string]>([
    ["there", {}, "https://hub/datasets/allenai/c4: there is no such data set"],
    ["readable", { "allenai/c4": { ...HUB["allenai/c4"], read: () => Promise.reject(new InputError("the Hub is away")) } }, "the Hub is away"],
  ])("it is the built-in text where C4 is not %s, and there is a warning", async (_, hub, message) => {
    expect(await of(undefined, true, places(hub))).toEqual({
      texts: [{ origin: "the built-in text", documents: ["built in"] }],
      why: "c4 could not be read",
      warnings: [`c4, which models from a Hub are calibrated on unless something else is chosen, could not be read: ${message}. Calibrating on the text that comes with Shardsmith`],
    });
  });

  it("an end that is asked for is no reason to take another text, nor is a mistake of ours", async () => {
    const signal = AbortSignal.abort(new Error("stopped"));
    await expect(calibrationTexts(undefined, true, places({}), 0, signal)).rejects.toThrow(new Error("stopped"));
    const wrong = { ...places(), dataSet: () => Promise.reject(new TypeError("a mistake")) };
    await expect(of(undefined, true, wrong as never)).rejects.toThrow(new TypeError("a mistake"));
  });
});
