import { describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { dataSetAddressOf } from "#src/source/data-set-address.js";
import { filesOfSplit } from "#src/source/data-set-split.js";
import { matches } from "#src/source/named-data-set.js";
import { namedDataSets } from "#src/source/text-files.js";

describe("addresses", () => {
  it.each([
    ["org/set", { repo: "org/set" }],
    ["org/set:en", { repo: "org/set", config: "en" }],
    ["org/set/test", { repo: "org/set", split: "test" }],
    ["org/set:20231101.en/train", { repo: "org/set", config: "20231101.en", split: "train" }],
    ["org/set@v1.0:en/train_sft", { repo: "org/set", revision: "v1.0", config: "en", split: "train_sft" }],
    ["org/set@refs%2Fconvert%2Fparquet", { repo: "org/set", revision: "refs/convert/parquet" }],
  ])("%s", (text, address) => {
    expect(dataSetAddressOf(text)).toEqual(address);
  });

  it.each(["", "c4", "./a/b", "/a/b", "a/b/c/d", "org/", "org/set:", "org/set/", "org/set@", "~/texts", "a b/c", "https://huggingface.co/datasets/org/set", "..", "../x", "C:\\texts"])("%j is none", (text) => {
    expect(dataSetAddressOf(text)).toBeUndefined();
  });
});

describe("files of a split", () => {
  const of = (paths: readonly string[], wish: { config?: string; split?: string } = {}) => filesOfSplit(paths, wish, "org/set@0123abcd");
  const plain = ["README.md", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet", "dataset_infos.json"];
  const several = ["en/train-0.parquet", "en/test-0.parquet", "de/train-0.parquet"];

  it("are those of train, or as is said", () => {
    expect(of(plain)).toEqual(plain.slice(1, 3));
    expect(of(plain, { split: "test" })).toEqual([plain[3]]);
    expect(of(["data/train_sft-0.parquet", "data/test_sft-0.parquet", "data/train_gen-0.parquet"], { split: "train_gen" })).toEqual(["data/train_gen-0.parquet"]);
    expect(of(["data/train_sft-0.parquet", "data/test_sft-0.parquet"])).toEqual(["data/train_sft-0.parquet"]);
    expect(of(["en/c4-train.0.json.gz", "en/c4-validation.0.json.gz"])).toEqual(["en/c4-train.0.json.gz"]);
    expect(of(["train.jsonl", "test.jsonl"])).toEqual(["train.jsonl"]);
    expect(of(["default/train/0000.parquet", "default/test/0000.parquet"])).toEqual(["default/train/0000.parquet"]);
    expect(of(["default/partial-train/0000.parquet", "default/test/0000.parquet"])).toEqual(["default/partial-train/0000.parquet"]);
    expect(of(["my-training.jsonl", "b.json"])).toEqual(["my-training.jsonl", "b.json"]);
  });

  it("are those of a config, which is a folder", () => {
    expect(of(several, { config: "de" })).toEqual(["de/train-0.parquet"]);
    expect(of(several, { config: "en", split: "test" })).toEqual(["en/test-0.parquet"]);
    expect(of(["data/en/train-0.parquet", "data/de/train-0.parquet"], { config: "en" })).toEqual(["data/en/train-0.parquet"]);
    expect(of(["default/train-0.parquet", "other/train-0.parquet"])).toEqual(["default/train-0.parquet"]);
  });

  it.each<[readonly string[], { config?: string; split?: string }, string]>([
    [["README.md", "a.csv"], {}, "org/set@0123abcd: has no Parquet or JSONL files (.parquet, .jsonl, .json, .jsonl.gz, .json.gz); the Hub's own conversion, where there is one, is org/set@refs%2Fconvert%2Fparquet"],
    [several, {}, "org/set@0123abcd: holds several configs; choose one, as org/set:de (de, en)"],
    [several, { config: "fr" }, `org/set@0123abcd: has no config "fr"; there are de, en`],
    [plain, { config: "fr" }, `org/set@0123abcd: has no config "fr"`],
    [plain, { split: "dev" }, `org/set@0123abcd: has no split "dev"; its files are data/train-00000-of-00002.parquet, data/train-00001-of-00002.parquet, data/test-00000-of-00001.parquet`],
  ])("that are not there are refused %#", (paths, wish, message) => {
    expect(() => of(paths, wish)).toThrow(new InputError(message));
  });
});

describe("named sets", () => {
  it("mean files by patterns", () => {
    expect(matches("en/c4-train.*.json.gz", "en/c4-train.00017-of-01024.json.gz")).toBe(true);
    expect(matches("en/c4-train.*.json.gz", "en/c4-validation.00000-of-00008.json.gz")).toBe(false);
    expect(matches("en/c4-train.*.json.gz", "en/c4-train.0/x.json.gz")).toBe(false);
    expect(matches("1.{ar,zh}/train-*", "1.zh/train-0.parquet")).toBe(true);
    expect(matches("1.{ar,zh}/train-*", "1.zh-classical/train-0.parquet")).toBe(false);
    expect(matches("1.{ar,zh}/train-*", "10zh/train-0.parquet")).toBe(false);
  });

  it("are complete, and each pattern lies in the folder that is listed", async () => {
    const all = await namedDataSets();
    expect(all.map(({ name }) => name)).toEqual(["c4", "wikitext", "chat", "code", "multilingual"]);
    for (const { name, repo, files, folder, licence, about, begins } of all) {
      expect({ name, repo, licence, about }).toEqual({ name: expect.stringMatching(/^[a-z0-9]+$/) as string, repo: expect.stringMatching(/^[\w-]+\/[\w-]+$/) as string, licence: expect.stringMatching(/./) as string, about: expect.stringMatching(/./) as string });
      if (folder !== undefined) for (const file of files) expect(file.startsWith(`${folder}/`)).toBe(true);
      if (begins !== undefined) expect(" = Robert Boulter = \n").toMatch(new RegExp(begins));
      if (begins !== undefined) expect(" = = Career = = \n").not.toMatch(new RegExp(begins));
    }
  });
});
