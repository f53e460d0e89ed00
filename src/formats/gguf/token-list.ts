import { InputError } from "../../errors.js";
import { quote } from "../../safetensors/json.js";
import type { TokenizerFile } from "./tokenizer-file.js";

/** What SentencePiece writes for a space, and llama.cpp with it. */
export const SPACE = "▁";

/** llama.cpp's kinds of tokens (`tokenizer.ggml.token_type`). */
export const TokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Every token by its id, and its kind. */
export interface TokenList {
  readonly tokens: readonly string[];
  readonly types: Int32Array<ArrayBuffer>;
}

/**
 * The tokens of a file, with names for ids that have none up to `size`, the rows of the model's embedding. Added tokens beyond it are
 * left out, since the model cannot take them. Throws `InputError` where ids and tokens are not one to one, or a token of the
 * vocabulary has no row.
 */
export function tokenList(file: TokenizerFile, size: number, model: "llama" | "gpt2"): TokenList {
  const found = new Array<string | undefined>(size);
  const types = new Int32Array(size).fill(TokenType.unused);
  const put = (id: number, token: string, type: number): void => {
    const other = found[id];
    if (other !== undefined && other !== token) throw new InputError(`tokenizer.json: the tokens ${quote(other)} and ${quote(token)} both have the id ${id}`);
    found[id] = token;
    types[id] = type;
  };
  for (const [token, id] of file.vocab) {
    if (id >= size) throw new InputError(`tokenizer.json: the token ${quote(token)} has the id ${id}, and the model's vocab_size is ${size}`);
    put(id, token, model === "llama" && /^<0x[0-9A-F]{2}>$/.test(token) ? TokenType.byte : TokenType.normal);
  }
  for (const { id, content, special } of file.added) {
    if (id >= size) continue;
    const known = file.vocab.get(content);
    if (known !== undefined && known !== id) throw new InputError(`tokenizer.json: the token ${quote(content)} has the ids ${known} and ${id}`);
    // Gemma adds runs of spaces, but as ▁, which texts do not have: in theirs the merges come to the same tokens.
    if (model === "llama" && known !== undefined && !special && content.includes(SPACE)) continue;
    put(id, content, special ? TokenType.control : TokenType.userDefined);
  }
  const unknown = model === "llama" && file.unknown !== undefined ? file.vocab.get(file.unknown) : undefined;
  if (unknown !== undefined) types[unknown] = TokenType.unknown;
  return { tokens: Array.from(found, (token, id) => token ?? `[PAD${id}]`), types };
}
