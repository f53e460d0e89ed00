import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { loadTokenizer } from "#src/calibration/tokenizer.js";
import { InputError } from "#src/errors.js";

const fixtures = new URL("../fixtures/tokenizers/", import.meta.url);
const fixture = (name: string) => readFileSync(new URL(name, fixtures), "utf8");
/** What transformers gives: see make.py. */
const expected = JSON.parse(fixture("expected.json")) as {
  config: object;
  texts: string[];
  ids: Record<string, number[][]>;
  plain: Record<string, number[]>;
  builtin: Record<string, { tokens: number; sha256: string }>;
};
const names = Object.keys(expected.ids);
const config = JSON.stringify(expected.config);

describe.each(names)("a tokenizer like that of %s", (name) => {
  const tokenizer = loadTokenizer(fixture(`${name}.json`), config);

  it.each(expected.texts.map((text, i) => [i, text] as const))("gives transformers' ids on text %i: %j", (i, text) => {
    expect([...tokenizer.encode(text, { addSpecialTokens: true })]).toEqual(expected.ids[name][i]);
    expect(tokenizer.encode(text, { addSpecialTokens: false })).toHaveLength(expected.plain[name][i]);
  });

  it("gives transformers' ids on the built-in text in many languages", () => {
    const text = readFileSync(new URL("../../calibration-data/multilingual.txt", import.meta.url), "utf8");
    const ids = tokenizer.encode(text, { addSpecialTokens: true });
    expect({ tokens: ids.length, sha256: createHash("sha256").update(ids).digest("hex") }).toEqual(expected.builtin[name]);
  });
});

it("begins a text with bos where the family does", () => {
  const first = (name: string) => loadTokenizer(fixture(`${name}.json`), config).encode("x", { addSpecialTokens: true })[0];
  expect(["llama2", "mistral", "gemma", "llama3"].map(first)).toEqual([1, 1, 3, 4]);
  const plain = loadTokenizer(fixture("qwen2.json"), undefined);
  expect(plain.encode("x", { addSpecialTokens: true })).toEqual(plain.encode("x", { addSpecialTokens: false }));
});

/** The library without our splitting of long words. */
function unsplit(json: string): (text: string) => number[] {
  const library = new (LibraryTokenizer as new (file: object, config: object) => { encode(text: string): { ids: number[] } })(JSON.parse(json) as object, {});
  return (text) => library.encode(text).ids;
}

describe.each(["llama2", "mistral", "gemma"])("a long text without words, as %s takes it", (name) => {
  const json = fixture(`${name}.json`);
  const whole = unsplit(json);
  const ours = loadTokenizer(json, undefined);

  it("is split only where its tokens stay the same", () => {
    // Pieces that merges join and separate in many ways, and characters that no merge knows.
    const piece = fc.oneof(fc.constantFrom(" ", "  ", "\n", "\n\n", "▁", "er", "en", "de", "a", "n", "ie", "ch", "ко", "的", "🙂", "<s>", "ß"), fc.string({ unit: "grapheme", maxLength: 4 }));
    fc.assert(fc.property(fc.array(piece, { minLength: 150, maxLength: 400 }), (pieces) => {
      const text = pieces.join("");
      expect([...ours.encode(text, { addSpecialTokens: true })]).toEqual(whole(text));
    }), { numRuns: 150 });
  });
});

describe("what cannot be read", () => {
  const good = JSON.parse(fixture("llama2.json")) as Record<string, unknown>;
  const load = (changes: object, config?: string) => loadTokenizer(JSON.stringify({ ...good, ...changes }), config);

  it.each<[string, () => unknown, string]>([
    ["no tokenizer.json", () => loadTokenizer(undefined, "{}"),
      "tokenizer.json is missing, and calibration needs it. If there is a tokenizer.model or a vocab.json instead, transformers makes one: "
      + `python -c "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('FOLDER').save_pretrained('FOLDER')"`],
    ["no JSON", () => loadTokenizer("{", undefined), "tokenizer.json: not JSON"],
    ["an array", () => loadTokenizer("[]", undefined), "tokenizer.json: not a JSON object"],
    ["a config that is no JSON", () => load({}, "<html>"), "tokenizer_config.json: not JSON"],
    ["no model", () => load({ model: undefined }), `tokenizer.json: "model" is not an object`],
    ["a model of another kind", () => load({ model: { type: "Neural" } }), "tokenizer.json: Unknown TokenizerModel type: Neural"],
    ["a normalizer of another kind", () => load({ normalizer: { type: "Rot13" } }), "tokenizer.json: Unknown Normalizer type: Rot13"],
  ])("%s is refused", (_, act, message) => {
    expect(act).toThrow(new InputError(message));
  });

  it("a special token outside the vocabulary is refused when it is needed", () => {
    const single = [{ SpecialToken: { id: "<start>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }];
    const tokenizer = load({
      model: { ...(good["model"] as object), unk_token: null },
      post_processor: { type: "TemplateProcessing", single, pair: single, special_tokens: {} },
    });
    expect(tokenizer.encode("x", { addSpecialTokens: false }).length).toBeGreaterThan(0);
    expect(() => tokenizer.encode("x", { addSpecialTokens: true })).toThrow(new InputError(`tokenizer.json: its vocabulary lacks the token "<start>"`));
  });
});
