import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

import { loadTokenizer } from "#src/calibration/tokenizer.js";

/** Texts and tokenizers on the developers' machine. */
const shared = "/work/shared";
/** What transformers gives on them: see make.py. */
const goldens = JSON.parse(readFileSync(new URL("../fixtures/tokenizers/shared.json", import.meta.url), "utf8")) as {
  model: string; text: string; tokens: number; sha256: string; paragraphSha256: string;
}[];

describe.skipIf(!existsSync(`${shared}/text`))("transformers' ids on real texts", () => {
  const loaded = new Map<string, ReturnType<typeof loadTokenizer>>();
  function tokenizerOf(model: string) {
    const file = (name: string) => readFileSync(`${shared}/models/${model}/${name}`, "utf8");
    if (!loaded.has(model)) loaded.set(model, loadTokenizer(file("tokenizer.json"), file("tokenizer_config.json")));
    return loaded.get(model)!;
  }

  it.each(goldens)("$model on $text", ({ model, text, tokens, sha256, paragraphSha256 }) => {
    const tokenizer = tokenizerOf(model);
    const whole = readFileSync(`${shared}/text/${text}`, "utf8");
    const ids = tokenizer.encode(whole, { addSpecialTokens: true });
    expect(ids).toHaveLength(tokens);
    expect(createHash("sha256").update(ids).digest("hex")).toBe(sha256);

    const paragraphs = createHash("sha256");
    for (const paragraph of whole.split("\n\n").slice(0, 200)) paragraphs.update(tokenizer.encode(paragraph, { addSpecialTokens: true }));
    expect(paragraphs.digest("hex")).toBe(paragraphSha256);
  });
});
