import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";

import { InputError } from "../errors.js";
import { isJsonObject } from "../safetensors/json.js";
import { knownCharacters } from "./known-characters.js";
import { sameInRust } from "./pre-tokenizer.js";
import { safeSplit, type PreTokenize } from "./safe-split.js";

/** Text to token ids. */
export interface Tokenizer {
  /** `addSpecialTokens` puts the tokens around the text that the model expects, as a beginning-of-sequence token, if it expects any. */
  encode(text: string, options: { readonly addSpecialTokens: boolean }): Uint32Array<ArrayBuffer>;
}

/** What is used of the library's class, whose own declarations do not resolve under `nodenext` (they import without extensions). */
interface Library {
  pre_tokenizer: PreTokenize | null;
  encode(text: string, options: { readonly add_special_tokens: boolean }): { readonly ids: readonly (number | undefined)[]; readonly tokens: readonly string[] };
}

/** Names under which tokenizer_config.json tells special tokens. */
const SPECIAL_TOKEN_NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/**
 * A tokenizer from the text of tokenizer.json and, where the checkpoint has it, tokenizer_config.json. Its ids are those of transformers 5's
 * `AutoTokenizer(...)(text)`, including which special tokens are put around a text: those of tokenizer.json's `post_processor` alone.
 * `add_bos_token` and `add_eos_token` in tokenizer_config.json have no say where there is a tokenizer.json (transformers
 * 5 drops them on loading). So Llama 2 and 3, Mistral and Gemma begin a text with their `bos`, Qwen and SmolLM2 with nothing.
 * The named special tokens of tokenizer_config.json are recognized within a text, as transformers does, if the vocabulary has them.
 * Throws `InputError` where a file is missing, is no JSON, or holds what `@huggingface/tokenizers` cannot read.
 */
export function loadTokenizer(tokenizerJson: string | undefined, tokenizerConfigJson: string | undefined): Tokenizer {
  if (tokenizerJson === undefined) {
    throw new InputError(
      "tokenizer.json is missing, and calibration needs it. If there is a tokenizer.model or a vocab.json instead, transformers makes one: "
        + `python -c "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('FOLDER').save_pretrained('FOLDER')"`,
    );
  }
  const file = parseObject("tokenizer.json", tokenizerJson);
  const config = tokenizerConfigJson === undefined ? {} : parseObject("tokenizer_config.json", tokenizerConfigJson);
  const model = file["model"];
  if (!isJsonObject(model)) throw new InputError(`tokenizer.json: "model" is not an object`);

  const tokenizer = construct({
    normalizer: null, post_processor: null, decoder: null,
    ...file,
    pre_tokenizer: sameInRust(file["pre_tokenizer"] ?? null),
    added_tokens: addedTokens(file["added_tokens"], model["vocab"], config),
  });
  const { vocab, merges } = model;
  if (isPlainBpe(model) && isJsonObject(vocab) && Array.isArray(merges)) {
    const dropsUnknown = (model["unk_token"] ?? null) === null && model["byte_fallback"] !== true;
    const words = dropsUnknown ? knownCharacters(tokenizer.pre_tokenizer, Object.keys(vocab)) : tokenizer.pre_tokenizer;
    tokenizer.pre_tokenizer = safeSplit(words, merges);
  }

  return {
    encode(text, { addSpecialTokens }) {
      const { ids, tokens } = tokenizer.encode(text, { add_special_tokens: addSpecialTokens });
      const unknown = ids.findIndex((id) => id === undefined);
      if (unknown >= 0) throw new InputError(`tokenizer.json: its vocabulary lacks the token ${JSON.stringify(tokens[unknown])}`);
      return Uint32Array.from(ids as readonly number[]);
    },
  };
}

/** Whether a word's tokens come of its characters by merges alone, so that it may be split, and characters left out. */
function isPlainBpe(model: Record<string, unknown>): boolean {
  return model["type"] === "BPE" && model["ignore_merges"] !== true && !model["end_of_word_suffix"] && !model["continuing_subword_prefix"];
}

function construct(file: object): Library {
  try {
    // Of tokenizer_config.json the library would take what transformers 5 does not: it gets none of it.
    return new (LibraryTokenizer as new (file: object, config: object) => Library)(file, {});
  } catch (error) {
    throw new InputError(`tokenizer.json: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** tokenizer.json's own added tokens, unchecked, and those of tokenizer_config.json's named ones that are in the vocabulary only. */
export function addedTokens(listed: unknown, vocab: unknown, config: Record<string, unknown>): unknown[] {
  const added: unknown[] = Array.isArray(listed) ? [...(listed as unknown[])] : [];
  const known = new Set(added.map((token) => (isJsonObject(token) ? token["content"] : undefined)));
  if (!isJsonObject(vocab)) return added;
  for (const name of SPECIAL_TOKEN_NAMES) {
    const value = config[name];
    const content = isJsonObject(value) ? value["content"] : value;
    if (typeof content !== "string" || known.has(content) || !Object.hasOwn(vocab, content)) continue;
    known.add(content);
    added.push({ id: vocab[content], content, special: true, normalized: false });
  }
  return added;
}

function parseObject(name: string, json: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new InputError(`${name}: not JSON`);
  }
  if (!isJsonObject(value)) throw new InputError(`${name}: not a JSON object`);
  return value;
}
