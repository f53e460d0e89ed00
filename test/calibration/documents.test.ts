import { describe, expect, it } from "vitest";

import { conversationsAndTextsOf, joinedTurns } from "#src/calibration/documents.js";
import { InputError } from "#src/errors.js";

/** What is said, turn by turn. */
const textsOf = (files: Parameters<typeof conversationsAndTextsOf>[0]) => conversationsAndTextsOf(files).map(joinedTurns);
const ofText = (text: string) => textsOf([{ name: "a.txt", text }]);
const ofLines = (...lines: unknown[]) => textsOf([{ name: "a.jsonl", text: lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n") }]);

describe("plain text", () => {
  it("is one document, to the character, where nothing divides it", () => {
    expect(ofText("\n one\n\n==== not =====\ntwo <|endoftext|> three\n\n")).toEqual(["\n one\n\n==== not =====\ntwo <|endoftext|> three\n\n"]);
  });

  it("is divided by lines of ===== or <|endoftext|>", () => {
    expect(ofText("one\nmore\n\n=====\n\n  two\n<|endoftext|>\nthree\n=====\n")).toEqual(["one\nmore", "  two", "three"]);
    expect(ofText("one\r\n\r\n=====\r\n\r\ntwo\r\n")).toEqual(["one", "two"]);
  });

  it("leaves out empty documents", () => {
    expect(ofText("=====\n=====\n \none\n=====\n\t\n=====")).toEqual([" \none"]);
  });

  it("of several files keeps their order", () => {
    expect(textsOf([{ name: "b.txt", text: "b" }, { name: "a.md", text: "a\n=====\nc" }])).toEqual(["b", "a", "c"]);
  });

  it.each(["", " \n\t\n", "=====\n\n=====\n"])("that holds nothing is refused: %j", (text) => {
    expect(() => ofText(text)).toThrow(new InputError("a.txt: holds no text"));
  });
});

describe("JSON lines", () => {
  it("take text, or content, or a conversation", () => {
    expect(ofLines(
      { text: "one\n=====\ntwo" }, "", { content: "three", id: 1 }, "  ",
      { messages: [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello" }] },
      { conversations: [{ role: "user", content: "Bye" }] }, { text: "" },
    )).toEqual(["one\n=====\ntwo", "three", "Hi\n\nHello", "Bye"]);
  });

  it("are known by the name's end, in any case", () => {
    expect(textsOf([{ name: "A.JSONL", text: `{"text":"one"}\r\n{"text":"two"}\r\n` }])).toEqual(["one", "two"]);
  });

  it.each<[unknown, string]>([
    [`{"text": "cut off`, "not JSON"],
    ["[1]", "not a JSON object"],
    ["null", "not a JSON object"],
    [{ title: "x" }, `has none of "text", "content", "messages" and "conversations"`],
    [{ text: 3 }, `"text" is not a string`],
    [{ content: ["x"] }, `"content" is not a string`],
  ])("of another kind are refused by number: %j", (line, what) => {
    expect(() => ofLines({ text: "fine" }, "", line)).toThrow(new InputError(`a.jsonl, line 3: ${what}`));
  });

  it("with a conversation that is none are refused", () => {
    expect(() => ofLines({ messages: "x" })).toThrow(new InputError(`a.jsonl, line 1: "messages" is not an array`));
    expect(() => ofLines({ conversations: [{ role: "user", content: "x" }, { role: "user" }] }))
      .toThrow(new InputError(`a.jsonl, line 1: "conversations", turn 2: "content" is not a string`));
  });

  it("keep conversations as turns where it is asked, and know who speaks in two ways", () => {
    const text = [{ messages: [{ role: "user", content: "Hi", id: 3 }] }, { conversations: [{ from: "human", value: "a" }, { from: "gpt", value: "b" }, { from: "tool", value: "c" }] }, { messages: [{ content: "x" }] }]
      .map((line) => JSON.stringify(line)).join("\n");
    expect(conversationsAndTextsOf([{ name: "a.jsonl", text }])).toEqual([
      [{ role: "user", content: "Hi" }],
      [{ role: "user", content: "a" }, { role: "assistant", content: "b" }, { role: "tool", content: "c" }],
      [{ content: "x" }],
    ]);
  });

  it("without any text are refused", () => {
    expect(() => ofLines({ text: " " }, "")).toThrow(new InputError("a.jsonl: holds no text"));
  });
});
