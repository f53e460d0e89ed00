import { InputError } from "../../errors.js";
import { isJsonObject, quote } from "../../safetensors/json.js";
import { SPACE, TokenType, type TokenList } from "./token-list.js";
import { stepsOf, type TokenizerFile } from "./tokenizer-file.js";

/**
 * For a BPE that works on a whole text with ▁ for its spaces, as SentencePiece's does: whether it puts one before the text.
 * Undefined for any other.
 */
export function spacePrefixOf({ normalizers, preTokenizer }: TokenizerFile): boolean | undefined {
  let replaces = false, prefix = false;
  for (const step of [...normalizers, ...stepsOf(preTokenizer, "pretokenizers")]) {
    const { type } = step;
    const literal = isJsonObject(step["pattern"]) ? step["pattern"]["String"] : undefined;
    // Gemma's split at spaces comes when there are none left.
    if (type === "Split" && literal === " " && replaces) continue;
    if (type === "Prepend" && step["prepend"] === SPACE) prefix = true;
    else if (type === "Replace" && literal === " " && step["content"] === SPACE) replaces = true;
    else if (type === "Metaspace" && step["replacement"] === SPACE && step["split"] === false) {
      replaces = true;
      prefix ||= step["prepend_scheme"] !== "never";
    } else return undefined;
  }
  return replaces ? prefix : undefined;
}

/**
 * Scores of tokens by id, with which llama.cpp comes to the tokens that the merges lead to. It joins the two neighbours that make up the
 * token with the highest score; the merges join those of the lowest rank. A token comes about by one merge only: the last one of those
 * that its own characters go through, since nothing around two neighbours changes what happened within them. So the rank
 * of that merge, negated, is the token's score. Throws `InputError` where two tokens that make up a third stay apart
 * (llama.cpp would join them), or where unknown characters do not become bytes.
 */
export function scoresOf({ vocab, merges, byteFallback }: TokenizerFile, { tokens, types }: TokenList): Float32Array<ArrayBuffer> {
  if (!byteFallback) throw new InputError("tokenizer.json: llama.cpp writes characters that no token has as bytes, and byte_fallback is not true");
  for (let byte = 0; byte < 256; byte++) {
    const name = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    // llama.cpp also takes the character itself, which Gemma has for the tab.
    if (!vocab.has(name) && !(byte < 128 && vocab.has(String.fromCharCode(byte)))) {
      throw new InputError(`tokenizer.json: llama.cpp needs a token for every byte, and ${name} is missing`);
    }
  }
  const ranks = new Map(merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
  // Lower than any score that joins: what is no result of merges is a single character, or found before them.
  const scores = new Float32Array(tokens.length).fill(-merges.length);
  for (const [id, token] of tokens.entries()) {
    if (types[id] !== TokenType.normal) continue;
    const { parts, lastRank } = merge(token, ranks);
    if (parts.length === 2) throw new InputError(`tokenizer.json: its merges leave ${quote(parts[0])} and ${quote(parts[1])} apart, which llama.cpp would join, since ${quote(token)} is a token`);
    if (parts.length === 1 && lastRank !== undefined) scores[id] = -lastRank;
  }
  return scores;
}

/** What the characters of a text become by merges alone, and the rank of the last one. */
function merge(text: string, ranks: ReadonlyMap<string, number>): { readonly parts: readonly string[]; readonly lastRank: number | undefined } {
  const parts = Array.from(text);
  let lastRank: number | undefined;
  for (;;) {
    let lowest = Infinity, at = 0;
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`);
      if (rank !== undefined && rank < lowest) [lowest, at] = [rank, i];
    }
    if (lowest === Infinity) return { parts, lastRank };
    parts.splice(at, 2, parts[at] + parts[at + 1]);
    lastRank = lowest;
  }
}
