import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { documentsDrawn, type Draw } from "#src/source/data-set.js";
import { dataSetOf, fixture, take } from "./data-set-fixtures.js";

const gzip = (text: string) => new Uint8Array(gzipSync(text));
const jsonLines = (texts: readonly string[]) => texts.map((text) => `${JSON.stringify({ text, other: 1 })}\n`).join("");
const numbered = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name} ${String(i)}`);
/** Text that gzip cannot make much of. */
const noisy = (seed: number, length: number) => {
  let state = seed;
  return Array.from({ length }, () => ((state = (Math.imul(state, 1664525) + 1013904223) | 0) >>> 8).toString(36)).join(" ");
};
const sorted = (documents: readonly unknown[]) => documents.map(String).sort();

describe("Parquet", () => {
  const draw: Draw = { paths: ["texts.parquet"], seed: 0 };
  const texts = () => dataSetOf({ "texts.parquet": fixture("texts.parquet") });

  it("gives every row once, but for the one without text, in an order that the seed chooses", async () => {
    const all = await take(documentsDrawn(texts(), draw)) as string[];
    const numbers = all.map((text) => Number(/^Document (\d+)\. /.exec(text)![1]));
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from({ length: 60 }, (_, i) => i).filter((i) => i !== 17));
    expect(numbers).not.toEqual([...numbers].sort((a, b) => a - b));
    expect(await take(documentsDrawn(texts(), draw))).toEqual(all);
    expect(await take(documentsDrawn(texts(), { ...draw, seed: 1 }))).not.toEqual(all);
    // Of one row group after the other.
    expect(new Set(numbers.slice(0, 10).filter((n) => n !== 17).map((n) => Math.floor(n / 10))).size).toBeLessThanOrEqual(2);
  });

  it("reads the footer and the column of the row groups that are needed, and nothing else", async () => {
    const files = texts();
    const size = files.files.get("texts.parquet")!;
    await take(documentsDrawn(files, draw), 5);
    expect(files.reads).toHaveLength(2);
    expect(files.reads[0]).toEqual(["texts.parquet", size - 64 * 1024, size]);
    const [, start, end] = files.reads[1];
    expect(end - start).toBeLessThan(1500);
    await take(documentsDrawn(files, draw));
    expect(files.reads).toHaveLength(2 + 1 + 6);
    expect(files.bytesRead()).toBeLessThan(2 * 64 * 1024 + 7 * 1500);
  });

  it("gives conversations as turns", async () => {
    const files = dataSetOf({ "data/train.parquet": fixture("chats.parquet") });
    const all = await take(documentsDrawn(files, { paths: ["data/train.parquet"], seed: 3 }));
    expect(all).toHaveLength(24);
    expect(all).toContainEqual([
      { role: "user", content: expect.stringMatching(/^Question 4: [a-z ]+\?$/) as string },
      { role: "assistant", content: expect.stringMatching(/^Answer 4: /) as string },
    ]);
  });

  it("gives columns that are said, in turn", async () => {
    const files = dataSetOf({ "a.parquet": fixture("chats.parquet") });
    const [document] = await take(documentsDrawn(files, { paths: ["a.parquet"], field: ["prompt"], seed: 3 }), 1);
    expect(document).toEqual([{ role: "user", content: expect.stringMatching(/^Question \d+: /) as string }]);
  });

  it("puts documents together of their lines, whole ones only", async () => {
    const files = dataSetOf({ "lines.parquet": fixture("lines.parquet") });
    const all = await take(documentsDrawn(files, { paths: ["lines.parquet"], field: "text", begins: /^ = [^=].* = \n?$/, seed: 0 })) as string[];
    for (const text of all) expect(text).toMatch(/^ = Article (\d) = \n First of \1 : [a-z ]+ \. \n = = Section of \1 = = \n Last of \1 \. \n$/);
    // Of nine articles in row groups of 30, 30 and 12 lines: the first and the last of each group are cut, or may be.
    expect(all.map((text) => Number(/\d/.exec(text)![0])).sort()).toEqual([0, 1, 2, 4, 5, 6, 8]);
  });

  it.each<[string, Uint8Array<ArrayBuffer>, Partial<Draw>, string]>([
    ["without such a column", fixture("texts.parquet"), { field: "body" }, "lacks the column body; it has text, noise, id"],
    ["without one of two", fixture("chats.parquet"), { field: ["prompt", "answer"] }, "lacks the column prompt or answer; it has prompt, messages"],
    ["of another kind", new TextEncoder().encode("no table at all"), {}, "not a Parquet file that can be read (parquet file invalid (footer != PAR1))"],
    ["that is nothing", new Uint8Array(0), {}, "not a Parquet file that can be read (Offset is outside the bounds of the DataView)"],
  ])("is refused %s", async (_, content, more, what) => {
    const files = dataSetOf({ "a.parquet": content });
    await expect(take(documentsDrawn(files, { paths: ["a.parquet"], seed: 0, ...more }))).rejects.toThrow(new InputError(`org/set@0123abcd/a.parquet: ${what}`));
  });

  it("is refused where a page is damaged", async () => {
    const content = fixture("lines.parquet");
    content.fill(0xff, 4, 400);
    const failure = take(documentsDrawn(dataSetOf({ "a.parquet": content }), { paths: ["a.parquet"], seed: 0 }));
    await expect(failure).rejects.toThrow(InputError);
    await expect(failure).rejects.toThrow(/^org\/set@0123abcd\/a\.parquet: not a Parquet file that can be read \(/);
  });

  it("says what the Hub says where bytes cannot be had", async () => {
    const files = { ...texts(), read: () => Promise.reject(new InputError("the Hub is away")) };
    await expect(take(documentsDrawn(files, draw))).rejects.toThrow(new InputError("the Hub is away"));
  });
});

describe("JSON lines", () => {
  it("are drawn from several files in turn, and give everything once", async () => {
    const contents = Object.fromEntries(["a", "b", "c", "d", "e", "f"].map((name, i) => [`${name}.jsonl`, jsonLines(numbered(name, 3 + i))]));
    const paths = Object.keys(contents);
    const all = await take(documentsDrawn(dataSetOf(contents), { paths, seed: 5 })) as string[];
    expect(sorted(all)).toEqual(sorted(["a", "b", "c", "d", "e", "f"].flatMap((name, i) => numbered(name, 3 + i))));
    expect(new Set(all.slice(0, 4).map((text) => text[0])).size).toBe(4);
    expect(await take(documentsDrawn(dataSetOf(contents), { paths: [...paths].reverse(), seed: 5 }))).toEqual(all);
    expect(await take(documentsDrawn(dataSetOf(contents), { paths, seed: 6 }))).not.toEqual(all);
    expect(new Set((await take(documentsDrawn(dataSetOf(contents), { paths, seed: 5, together: 6 })) as string[]).slice(0, 6).map((text) => text[0])).size).toBe(6);
  });

  it("are unpacked as they come, and no further than is needed", async () => {
    const texts = numbered("x", 4000).map((text, i) => `${text} ${noisy(i + 1, 80)}`);
    const packed = gzip(jsonLines(texts));
    expect(packed.length).toBeGreaterThan(1_000_000);
    const files = dataSetOf({ "a.json.gz": packed });
    expect(await take(documentsDrawn(files, { paths: ["a.json.gz"], seed: 0 }), 100)).toEqual(texts.slice(0, 100));
    expect(files.reads).toEqual([["a.json.gz", 0, 256 * 1024]]);
    const all = dataSetOf({ "a.json.gz": packed });
    expect(await take(documentsDrawn(all, { paths: ["a.json.gz"], seed: 0 }))).toEqual(texts);
    expect(all.bytesRead()).toBe(packed.length);
  });

  it("may be packed in several members", async () => {
    const packed = new Uint8Array(Buffer.concat([gzip(jsonLines(["one", "two"])), gzip(jsonLines(["three"]))]));
    expect(await take(documentsDrawn(dataSetOf({ "a.jsonl.gz": packed }), { paths: ["a.jsonl.gz"], seed: 0 }))).toEqual(["one", "two", "three"]);
  });

  it("of a long file are read from where the seed says, and only the line there is lost", async () => {
    const texts = numbered("x", 2000).map((text) => `${text} ${"é".repeat(2600)}`);
    const content = jsonLines(texts);
    const draw = { paths: ["a.jsonl"], seed: 1 };
    const few = dataSetOf({ "a.jsonl": content });
    const [first] = await take(documentsDrawn(few, draw), 1) as string[];
    expect(first).not.toBe(texts[0]);
    expect(few.bytesRead()).toBe(256 * 1024);
    expect((await take(documentsDrawn(few, { ...draw, seed: 2 }), 1))[0]).not.toBe(first);
    const all = await take(documentsDrawn(dataSetOf({ "a.jsonl": content }), draw)) as string[];
    const at = texts.indexOf(first);
    expect(all).toEqual([...texts.slice(at), ...texts.slice(0, at - 1)]);
  });

  it("need no line end after the last, and may have empty lines and texts", async () => {
    expect(await take(documentsDrawn(dataSetOf({ "a.jsonl": `{"text":"one"}\r\n\r\n{"text":" "}\n{"content":"two"}` }), { paths: ["a.jsonl"], seed: 0 }))).toEqual(["one", "two"]);
  });

  it.each<[string, string | Uint8Array<ArrayBuffer>, string]>([
    ["a.json", `[{"text": "one"}]`, "org/set@0123abcd/a.json: is a JSON array, and not an object a line; choose another data set, or take this one as Parquet: add @refs%2Fconvert%2Fparquet to its name"],
    ["a.jsonl", `{"text": "one"}\n{"text`, "org/set@0123abcd/a.jsonl, line 2: not JSON"],
    ["a.jsonl", `{"body": "one"}`, `org/set@0123abcd/a.jsonl, line 1: has none of "text", "content", "messages" and "conversations"`],
    ["a.json.gz", "not packed", "org/set@0123abcd/a.json.gz: cannot be unpacked (incorrect header check)"],
    ["a.json.gz", gzip(jsonLines(numbered("x", 100))).slice(0, 100), "org/set@0123abcd/a.json.gz: cannot be unpacked (unexpected end of file)"],
  ])("that are none are refused: %s %#", async (path, content, message) => {
    await expect(take(documentsDrawn(dataSetOf({ [path]: content }), { paths: [path], seed: 0 }))).rejects.toThrow(new InputError(message));
  });

  it("without an end are refused", { timeout: 20_000 }, async () => {
    const packed = gzip("x".repeat(70 * 1024 * 1024));
    await expect(take(documentsDrawn(dataSetOf({ "a.json.gz": packed }), { paths: ["a.json.gz"], seed: 0 }))).rejects.toThrow(new InputError("org/set@0123abcd/a.json.gz: has a line of more than 67108864 characters"));
  });

  it("say what the Hub says where bytes cannot be had, packed or not", async () => {
    for (const path of ["a.jsonl", "a.jsonl.gz"]) {
      const files = { ...dataSetOf({ [path]: "xxx" }), read: () => Promise.reject(new InputError("the Hub is away")) };
      await expect(take(documentsDrawn(files, { paths: [path], seed: 0 }))).rejects.toThrow(new InputError("the Hub is away"));
    }
  });
});
