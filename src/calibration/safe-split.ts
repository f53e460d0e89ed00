/** A pre-tokenizer as `@huggingface/tokenizers` calls it: a stretch of text to words. */
export type PreTokenize = (text: string, options?: object) => string[];

/** Shorter words are not worth the search. It is also the length up to which the library remembers a word's tokens. */
const LONG_WORD = 256;

/**
 * A pre-tokenizer that splits the long words of another one (none: the whole text is a word) where byte-pair encoding cannot
 * join them, so that the tokens stay the same. A merge makes a token of a left and a right one, so it can bridge a place between
 * characters a and b only if its left part ends with a and its right part begins with b. Where no merge does, both sides are
 * encoded independently of each other. `merges` as in tokenizer.json: "a b" or ["a", "b"].
 *
 * Tokenizers in SentencePiece's manner (Llama 2, Mistral, Gemma) take a whole text for one word: megabytes of linked nodes, and no
 * word that recurs to be remembered.
 */
export function safeSplit(inner: PreTokenize | null, merges: readonly unknown[]): PreTokenize {
  let bridges: Set<string> | undefined;
  return (text, options) => {
    const words = inner === null ? [text] : inner(text, options);
    return words.flatMap((word) => (word.length <= LONG_WORD ? [word] : split(word, (bridges ??= bridgesOf(merges)))));
  };
}

function split(word: string, bridges: ReadonlySet<string>): string[] {
  const parts: string[] = [];
  let start = 0;
  let before = "";
  let at = 0;
  for (const character of word) {
    if (at > 0 && !bridges.has(before + character)) {
      parts.push(word.slice(start, at));
      start = at;
    }
    before = character;
    at += character.length;
  }
  parts.push(word.slice(start));
  return parts;
}

/** Pairs of characters that a merge can join: the last of its left part and the first of its right part. */
function bridgesOf(merges: readonly unknown[]): Set<string> {
  const bridges = new Set<string>();
  for (const merge of merges) {
    const [left, right] = (typeof merge === "string" ? merge.split(" ", 2) : merge) as [string, string];
    bridges.add(lastCharacter(left) + String.fromCodePoint(right.codePointAt(0)!));
  }
  return bridges;
}

function lastCharacter(text: string): string {
  const low = text.charCodeAt(text.length - 1);
  return text.slice(low >= 0xdc00 && low <= 0xdfff ? -2 : -1);
}
