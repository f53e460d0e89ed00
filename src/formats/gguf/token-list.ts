import { InputError } from "../../errors.js";
import { quote } from "../../safetensors/json.js";
import { SPACE } from "./sentencepiece.js";
import type { TokenizerFile } from "./tokenizer-file.js";

/** llama.cpp's kinds of tokens (`tokenizer.ggml.token_type`). */
const NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6;

/**
 * Every token by its id, and its kind; ids that have none are filled up to `size`, the rows of the model's embedding. Added tokens beyond
 * it are left out, since the model cannot take them. Throws `InputError` where ids and tokens are not one to one, or a token of
 * the vocabulary has no row.
 */
export function tokenList(file: TokenizerFile, size: number, kind: "llama" | "gpt2"): { readonly tokens: string[]; readonly types: Int32Array<ArrayBuffer> } {
  const found = new Array<string | undefined>(size);
  const types = new Int32Array(size).fill(UNUSED);
  const put = (id: number, token: string, type: number): void => {
    const other = found[id];
    if (other !== undefined && other !== token) throw new InputError(`tokenizer.json: the tokens ${quote(other)} and ${quote(token)} both have the id ${id}`);
    found[id] = token;
    types[id] = type;
  };
  for (const [token, id] of file.vocab) {
    if (id >= size) throw new InputError(`tokenizer.json: the token ${quote(token)} has the id ${id}, and the model's vocab_size is ${size}`);
    put(id, token, kind === "llama" && /^<0x[0-9A-F]{2}>$/.test(token) ? BYTE : NORMAL);
  }
  for (const { id, content, special } of file.added) {
    if (id >= size) continue;
    const known = file.vocab.get(content);
    if (known !== undefined && known !== id) throw new InputError(`tokenizer.json: the token ${quote(content)} has the ids ${known} and ${id}`);
    // Of runs of spaces, as Gemma adds them, llama.cpp would find the longest first; by merges it comes to what their merges lead to.
    if (kind === "llama" && known !== undefined && !special && content.includes(SPACE)) continue;
    put(id, content, special ? CONTROL : USER_DEFINED);
  }
  const unknown = kind === "llama" && file.unknown !== undefined ? file.vocab.get(file.unknown) : undefined;
  if (unknown !== undefined) types[unknown] = UNKNOWN;
  return { tokens: Array.from(found, (token, id) => token ?? `[PAD${id}]`), types };
}
