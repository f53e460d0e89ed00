import type { PreTokenize } from "./safe-split.js";

/**
 * The words of a pre-tokenizer (none: the whole text) without the characters that the vocabulary lacks, for byte-pair encoding that
 * has neither an unknown token nor bytes to fall back on. The Rust crate leaves such a character out before it merges, so that its
 * neighbours may join; `@huggingface/tokenizers` 0.2.0 does so afterwards. (SmolLM2 lacks six control characters and two bytes.)
 */
export function knownCharacters(inner: PreTokenize | null, vocabulary: Iterable<string>): PreTokenize {
  const known = new Set<string>();
  for (const token of vocabulary) if (token.length <= 2 && String.fromCodePoint(token.codePointAt(0) ?? 0) === token) known.add(token);
  return (text, options) => {
    const words = inner === null ? [text] : inner(text, options);
    return words.map((word) => {
      for (const character of word) if (!known.has(character)) return Array.from(word).filter((other) => known.has(other)).join("");
      return word;
    });
  };
}
