import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { loadTokenizer } from "#src/calibration/tokenizer.js";
import { InputError } from "#src/errors.js";
import { tokenizerKeys } from "#src/formats/gguf/tokenizer-keys.js";
import type { GgufKey } from "#src/formats/gguf/values.js";

type Json = Record<string, unknown>;
const fixtures = new URL("../../fixtures/", import.meta.url);
const parsed = (name: string): unknown => JSON.parse(readFileSync(new URL(name, fixtures), "utf8"));

/** Keys of a model with these files, JSON as objects, by name; arrays plain. */
async function keysOf(files: Record<string, unknown>, vocabSize: number): Promise<Map<string, unknown>> {
  const { "config.json": config = {}, ...beside } = files;
  const bytes = (content: unknown) => new TextEncoder().encode(typeof content === "string" ? content : JSON.stringify(content));
  const keys = await tokenizerKeys({
    config: config as Json,
    files: new Map(Object.entries(beside).map(([name, content]) => [name, bytes(content).length])),
    readFile: (name) => Promise.resolve(bytes(beside[name])),
  }, vocabSize);
  return new Map(keys.map(([name, value]: GgufKey) => [name, value.type === "array" ? Array.from<unknown>(value.values) : value.value]));
}

/** As a model of a few words has it: the bytes, then what merges lead to. */
const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
const vocabOf = (tokens: readonly string[]): Record<string, number> => Object.fromEntries(tokens.map((token, id) => [token, id]));
const spaces = { type: "Replace", pattern: { String: " " }, content: "▁" };
const template = (single: readonly string[]): Json => ({
  type: "TemplateProcessing",
  single: single.map((token) => (token === "A" ? { Sequence: { id: "A", type_id: 0 } } : { SpecialToken: { id: token, type_id: 0 } })),
  special_tokens: Object.fromEntries(single.filter((token) => token !== "A").map((token) => [token, { id: token, ids: [["<unk>", "<s>", "</s>"].indexOf(token)], tokens: [token] }])),
});
const special = (id: number, content: string): Json => ({ id, content, special: true, normalized: false });

const LLAMA2 = {
  added_tokens: [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>"), { id: 266, content: "<tool>", special: false }],
  normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, spaces] },
  pre_tokenizer: null,
  post_processor: template(["<s>", "A"]),
  model: {
    type: "BPE", unk_token: "<unk>", byte_fallback: true,
    vocab: vocabOf(["<unk>", "<s>", "</s>", ...BYTES, "▁", "a", "b", "▁a", "ab", "▁ab"]),
    merges: [["▁", "a"], ["▁a", "b"], ["a", "b"], ["▁", "ab"]],
  },
};
const GPT2 = {
  added_tokens: [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>"), { id: 7, content: "<tool>", special: false }],
  normalizer: null,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: null,
  model: { type: "BPE", vocab: vocabOf(["<unk>", "<s>", "</s>", "Ġ", "a", "b", "Ġa"]), merges: ["Ġ a"] },
};

describe("a tokenizer like SentencePiece's", () => {
  it("has its tokens, kinds and scores in the keys", async () => {
    const keys = await keysOf({
      "tokenizer.json": LLAMA2,
      "tokenizer_config.json": { bos_token: "<s>", eos_token: { content: "</s>" }, unk_token: "<unk>", pad_token: null },
    }, 269);
    expect([...keys.keys()]).toEqual([
      "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.scores", "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type",
      "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token",
    ]);
    expect(Object.fromEntries(keys)).toMatchObject({
      "tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.add_space_prefix": true,
      "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
      "tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.add_eos_token": false,
    });
    expect(keys.get("tokenizer.ggml.tokens")).toEqual(["<unk>", "<s>", "</s>", ...BYTES, "▁", "a", "b", "▁a", "ab", "▁ab", "[PAD265]", "<tool>", "[PAD267]", "[PAD268]"]);
    expect(keys.get("tokenizer.ggml.token_type")).toEqual([2, 3, 3, ...BYTES.map(() => 6), 1, 1, 1, 1, 1, 1, 5, 4, 5, 5]);
    // ▁ab comes about by the merge of ▁a and b alone: ▁a is joined first.
    expect((keys.get("tokenizer.ggml.scores") as number[]).slice(259)).toEqual([-4, -4, -4, -0, -2, -1, -4, -4, -4, -4]);
  });

  it.each<[string, Json, boolean]>([
    ["Gemma's", { normalizer: spaces, pre_tokenizer: { type: "Split", pattern: { String: " " }, behavior: "MergedWithPrevious", invert: false } }, false],
    ["Mistral's", { normalizer: null, pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: false } }, true],
    ["one that puts nothing before a text", { normalizer: null, pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "never", split: false } }, false],
  ])("of another kind is known: %s", async (_, changes, prefix) => {
    const keys = await keysOf({ "tokenizer.json": { ...LLAMA2, ...changes } }, 267);
    expect([keys.get("tokenizer.ggml.model"), keys.get("tokenizer.ggml.add_space_prefix")]).toEqual(["llama", prefix]);
  });

  it("leaves runs of spaces that are added to its merges, and finds other added text first", async () => {
    const vocab = { ...LLAMA2.model.vocab, "▁▁": 265, "\n\n": 266, "<0x09>": undefined, "\t": 12 };
    const added = [...LLAMA2.added_tokens.slice(0, 3), { id: 265, content: "▁▁", special: false }, { id: 266, content: "\n\n", special: false }];
    const keys = await keysOf({ "tokenizer.json": { ...LLAMA2, added_tokens: added, model: { ...LLAMA2.model, vocab, merges: [...LLAMA2.model.merges, ["▁", "▁"]] } } }, 267);
    expect((keys.get("tokenizer.ggml.token_type") as number[]).slice(265)).toEqual([1, 4]);
    expect((keys.get("tokenizer.ggml.scores") as number[]).slice(265)).toEqual([-4, -5]);
  });
});

/** Tokens of a text as llama.cpp finds them: the neighbours that make up the token with the highest score become one, as long as any do. */
function joinByScores(text: string, keys: ReadonlyMap<string, unknown>): number[] {
  const tokens = keys.get("tokenizer.ggml.tokens") as string[], scores = keys.get("tokenizer.ggml.scores") as number[];
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const parts = Array.from((keys.get("tokenizer.ggml.add_space_prefix") === true ? ` ${text}` : text).replaceAll(" ", "▁"));
  for (;;) {
    let best = -1;
    for (let i = 0; i + 1 < parts.length; i++) {
      const score = (at: number) => scores[ids.get(parts[at] + parts[at + 1]) ?? -1];
      if (score(i) !== undefined && (best < 0 || score(i) > score(best))) best = i;
    }
    if (best < 0) return parts.flatMap((part) => ids.get(part) ?? [...new TextEncoder().encode(part)].map((byte) => ids.get(BYTES[byte])!));
    parts.splice(best, 2, parts[best] + parts[best + 1]);
  }
}

describe.each(["llama2", "mistral", "gemma"])("the scores of a tokenizer like that of %s", (name) => {
  const json = parsed(`tokenizers/${name}.json`) as { model: { vocab: object } };
  const ours = loadTokenizer(JSON.stringify(json), undefined);

  it("lead to the tokens that its merges lead to", async () => {
    const keys = await keysOf({ "tokenizer.json": json }, Object.keys(json.model.vocab).length);
    const piece = fc.oneof(fc.constantFrom(" ", "  ", "\n", "\n\n", "er", "en", "de", "a", "n", "ie", "ch", "ко", "的", "🙂", "ß", ...Object.keys(json.model.vocab).filter((token) => !token.startsWith("<"))), fc.string({ unit: "grapheme", maxLength: 4 }));
    fc.assert(fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
      // Where a text begins with a space, Mistral's takes no other before it, and llama.cpp does.
      const text = `x${pieces.join("")}`;
      expect(joinByScores(text, keys)).toEqual([...ours.encode(text, { addSpecialTokens: false })]);
    }), { numRuns: 300 });
  });
});

describe("a byte-level tokenizer", () => {
  it("has its tokens, kinds and merges in the keys", async () => {
    const keys = await keysOf({ "tokenizer.json": GPT2, "config.json": { bos_token_id: 1, eos_token_id: [2, 7], pad_token_id: 99 } }, 9);
    expect(Object.fromEntries(keys)).toEqual({
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "gpt-2",
      "tokenizer.ggml.merges": ["Ġ a"],
      "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "Ġ", "a", "b", "Ġa", "<tool>", "[PAD8]"],
      "tokenizer.ggml.token_type": [3, 3, 3, 1, 1, 1, 1, 4, 5],
      "tokenizer.ggml.bos_token_id": 1,
      "tokenizer.ggml.eos_token_id": 2,
      "tokenizer.ggml.eot_token_id": 7,
      "tokenizer.ggml.add_bos_token": false,
      "tokenizer.ggml.add_eos_token": false,
    });
  });

  it.each(parsed("tokenizers/pre-tokenizers.json") as { of: string; name: string; ignoreMerges: boolean; preTokenizer: unknown }[])("that splits like that of $of is $name to llama.cpp", async ({ name, ignoreMerges, preTokenizer }) => {
    const keys = await keysOf({ "tokenizer.json": { ...GPT2, normalizer: { type: "NFC" }, pre_tokenizer: preTokenizer, model: { ...GPT2.model, ignore_merges: ignoreMerges } } }, 8);
    expect(keys.get("tokenizer.ggml.pre")).toBe(name);
  });
});

describe("special tokens", () => {
  it("put around a text are those of the post-processor, whatever tokenizer_config.json names", async () => {
    const processors = [{ type: "ByteLevel", trim_offsets: false }, template(["<unk>", "A", "<s>"])];
    const keys = await keysOf({
      "tokenizer.json": { ...GPT2, post_processor: { type: "Sequence", processors } },
      "tokenizer_config.json": { bos_token: "<s>", eos_token: "</s>", add_bos_token: false, add_eos_token: false },
    }, 8);
    expect(Object.fromEntries(keys)).toMatchObject({
      "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.add_eos_token": true,
    });
  });

  it("that tokenizer_config.json names, and the vocabulary has as plain tokens, steer the model", async () => {
    const keys = await keysOf({ "tokenizer.json": GPT2, "tokenizer_config.json": { eos_token: "b", pad_token: "Ġa", unk_token: "nowhere" } }, 8);
    expect(keys.get("tokenizer.ggml.token_type")).toEqual([3, 3, 3, 1, 1, 3, 3, 4]);
    expect([keys.get("tokenizer.ggml.eos_token_id"), keys.get("tokenizer.ggml.padding_token_id"), keys.get("tokenizer.ggml.unknown_token_id")]).toEqual([5, 6, undefined]);
  });

  it("at which generation stops are told where llama.cpp would not find them by their text", async () => {
    const keys = await keysOf({
      "tokenizer.json": { ...GPT2, added_tokens: [...GPT2.added_tokens, special(8, "<|im_end|>"), special(9, "<stop>")] },
      "tokenizer_config.json": { eos_token: "</s>" }, "generation_config.json": { eos_token_id: [8, 2, 7, 9] },
    }, 10);
    expect([keys.get("tokenizer.ggml.eos_token_id"), keys.get("tokenizer.ggml.eot_token_id"), keys.get("tokenizer.ggml.eom_token_id")]).toEqual([2, 7, 9]);
  });

  it("beyond the model's rows are left out", async () => {
    const keys = await keysOf({ "tokenizer.json": GPT2, "tokenizer_config.json": { pad_token: "<tool>" } }, 7);
    expect(keys.get("tokenizer.ggml.tokens")).toHaveLength(7);
    expect(keys.has("tokenizer.ggml.padding_token_id")).toBe(false);
  });
});

it("carries the chat template, that of chat_template.jinja first", async () => {
  const templateOf = async (files: Json) => (await keysOf({ "tokenizer.json": GPT2, ...files }, 8)).get("tokenizer.chat_template");
  expect(await templateOf({})).toBeUndefined();
  expect(await templateOf({ "tokenizer_config.json": { chat_template: "{{ a }}" } })).toBe("{{ a }}");
  expect(await templateOf({ "tokenizer_config.json": { chat_template: [{ name: "tool", template: "{{ t }}" }, { name: "default", template: "{{ d }}" }] } })).toBe("{{ d }}");
  expect(await templateOf({ "tokenizer_config.json": { chat_template: "{{ a }}" }, "chat_template.jinja": "{{ ü }}" })).toBe("{{ ü }}");
});

describe("what llama.cpp cannot take", () => {
  const gpt2 = (changes: object, model: object = {}) => ({ "tokenizer.json": { ...GPT2, ...changes, model: { ...GPT2.model, ...model } } });
  const llama2 = (changes: object, model: object = {}) => ({ "tokenizer.json": { ...LLAMA2, ...changes, model: { ...LLAMA2.model, ...model } } });
  const digits = { type: "Digits", individual_digits: false };

  it.each<[string, Record<string, unknown>, string]>([
    ["no tokenizer.json", {}, "tokenizer.json is missing, and a GGUF file holds the tokenizer"],
    ["no JSON", { "tokenizer.json": "[]" }, "tokenizer.json is not a JSON object"],
    ["another model", gpt2({}, { type: "Unigram", vocab: [["a", 0]], merges: undefined }), `tokenizer.json: its model is "Unigram"; a GGUF file takes a BPE with a vocabulary and merges`],
    ["no model", { "tokenizer.json": {} }, "tokenizer.json: its model is unknown; a GGUF file takes a BPE with a vocabulary and merges"],
    ["ends of words", gpt2({}, { end_of_word_suffix: "</w>" }), `tokenizer.json: end_of_word_suffix is "</w>", which llama.cpp does not know`],
    ["a merge of three", gpt2({}, { merges: ["a b c"] }), `tokenizer.json: "a b c" is no merge of two tokens`],
    ["an id that is none", gpt2({}, { vocab: { a: -1 } }), `tokenizer.json: the token "a" has the id -1`],
    ["an added token that is none", gpt2({ added_tokens: ["x"] }), `tokenizer.json: "x" is no added token`],
    ["two tokens of one id", gpt2({}, { vocab: { a: 4, b: 4 } }), `tokenizer.json: the tokens "a" and "b" both have the id 4`],
    ["a token of two ids", gpt2({ added_tokens: [special(7, "a")] }), `tokenizer.json: the token "a" has the ids 4 and 7`],
    ["a token without a row", gpt2({}, { vocab: { ...GPT2.model.vocab, c: 267 } }), `tokenizer.json: the token "c" has the id 267, and the model's vocab_size is 267`],
    ["another pre-tokenizer", gpt2({ pre_tokenizer: digits }), `tokenizer.json: llama.cpp knows no pre-tokenizer like {"type":"Digits","individual_digits":false} with ignore_merges false`],
    ["a known one with ignore_merges", gpt2({}, { ignore_merges: true }), `tokenizer.json: llama.cpp knows no pre-tokenizer like {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true} with ignore_merges true`],
    ["a space before byte-level text", gpt2({ pre_tokenizer: { ...GPT2.pre_tokenizer, add_prefix_space: true } }), `tokenizer.json: llama.cpp knows no pre-tokenizer like {"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true} with ignore_merges false`],
    ["▁ that splits", llama2({ normalizer: null, pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true } }), `tokenizer.json: llama.cpp knows no pre-tokenizer like {"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true} with ignore_merges false`],
    ["another normalizer", gpt2({ normalizer: { type: "Lowercase" } }), `tokenizer.json: llama.cpp knows no normalizer like {"type":"Lowercase"}`],
    ["both another normalizer and no known pre-tokenizer", llama2({ normalizer: { type: "Sequence", normalizers: [{ type: "NFKC" }, spaces] } }), `tokenizer.json: llama.cpp knows no normalizer like {"type":"NFKC"}`],
    ["an unknown character without bytes", llama2({}, { byte_fallback: false }), "tokenizer.json: llama.cpp writes characters that no token has as bytes, and byte_fallback is not true"],
    ["a byte without a token", llama2({}, { vocab: { ...LLAMA2.model.vocab, "<0xFE>": undefined } }), "tokenizer.json: llama.cpp needs a token for every byte, and <0xFE> is missing"],
    ["merges that leave two tokens apart", llama2({}, { merges: [["▁", "a"], ["a", "b"]] }), `tokenizer.json: its merges leave "▁a" and "b" apart, which llama.cpp would join, since "▁ab" is a token`],
    ["two tokens before a text", gpt2({ post_processor: template(["<s>", "</s>", "A"]) }),
      `tokenizer.json: llama.cpp puts one token at most before a text and one after it, and the post-processor is [{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","i…`],
    ["another post-processor", gpt2({ post_processor: { type: "BertProcessing", sep: ["</s>", 2], cls: ["<s>", 1] } }),
      `tokenizer.json: llama.cpp puts one token at most before a text and one after it, and the post-processor is [{"type":"BertProcessing","sep":["</s>",2],"cls":["<s>",1]}]`],
  ])("is refused: %s", async (_, files, message) => {
    await expect(keysOf(files, 267)).rejects.toThrow(new InputError(message));
  });
});
