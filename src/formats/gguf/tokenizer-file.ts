import { addedTokens } from "../../calibration/tokenizer.js";
import { InputError } from "../../errors.js";
import { isJsonObject, quote, type JsonObject } from "../../safetensors/json.js";

/** A token that is found in a text before all else. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** It steers the model, and is no text. */
  readonly special: boolean;
}

/** tokenizer.json, as far as its ids depend on it. Every tokenizer in it is a BPE. */
export interface TokenizerFile {
  /** Token → id, of those that merges lead to. */
  readonly vocab: ReadonlyMap<string, number>;
  /** Which two tokens become one, the most urgent first. */
  readonly merges: readonly (readonly [left: string, right: string])[];
  readonly added: readonly AddedToken[];
  readonly unknown: string | undefined;
  /** Whether what is not in the vocabulary becomes tokens of its bytes, <0x00> to <0xFF>. */
  readonly byteFallback: boolean;
  readonly ignoreMerges: boolean;
  readonly normalizers: readonly JsonObject[];
  /** As it stands in the file. */
  readonly preTokenizer: unknown;
  readonly postProcessors: readonly JsonObject[];
}

/**
 * Reads what tokenizer.json, parsed, holds, and the special tokens that tokenizer_config.json names. Throws `InputError` where it is
 * no BPE, or not in the shape that the `tokenizers` library writes.
 */
export function readTokenizerFile(json: JsonObject, tokenizerConfig: JsonObject): TokenizerFile {
  const { model } = json;
  if (!isJsonObject(model) || !isJsonObject(model["vocab"]) || !Array.isArray(model["merges"])) {
    const type = isJsonObject(model) ? model["type"] : undefined;
    throw new InputError(`tokenizer.json: its model is ${type === undefined ? "unknown" : quote(type)}; a GGUF file takes a BPE with a vocabulary and merges`);
  }
  for (const affix of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[affix]) throw new InputError(`tokenizer.json: ${affix} is ${quote(model[affix])}, which llama.cpp does not know`);
  }
  return {
    vocab: new Map(Object.entries(model["vocab"]).map(([token, id]) => [token, idOf(token, id)])),
    merges: model["merges"].map(mergeOf),
    added: addedTokens(json["added_tokens"], model["vocab"], tokenizerConfig).map(addedOf),
    unknown: typeof model["unk_token"] === "string" ? model["unk_token"] : undefined,
    byteFallback: model["byte_fallback"] === true,
    ignoreMerges: model["ignore_merges"] === true,
    normalizers: stepsOf(json["normalizer"], "normalizers"),
    preTokenizer: json["pre_tokenizer"] ?? null,
    postProcessors: stepsOf(json["post_processor"], "processors"),
  };
}

/** A component of tokenizer.json as the list of what it does one after the other: a `Sequence` keeps its parts under `list`. */
export function stepsOf(component: unknown, list: "normalizers" | "pretokenizers" | "processors"): JsonObject[] {
  if (!isJsonObject(component)) return [];
  const parts = component["type"] === "Sequence" ? component[list] : undefined;
  return Array.isArray(parts) ? parts.flatMap((part) => stepsOf(part, list)) : [component];
}

/** `["a", "b"]`, or `"a b"` as it was written until 2024. */
function mergeOf(merge: unknown): readonly [string, string] {
  const pair: unknown = typeof merge === "string" ? merge.split(" ") : merge;
  if (Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === "string")) return [pair[0], pair[1]];
  throw new InputError(`tokenizer.json: ${quote(merge)} is no merge of two tokens`);
}

function addedOf(token: unknown): AddedToken {
  if (isJsonObject(token) && typeof token["content"] === "string") {
    return { id: idOf(token["content"], token["id"]), content: token["content"], special: token["special"] === true };
  }
  throw new InputError(`tokenizer.json: ${quote(token)} is no added token`);
}

function idOf(token: string, id: unknown): number {
  if (Number.isSafeInteger(id) && (id as number) >= 0) return id as number;
  throw new InputError(`tokenizer.json: the token ${quote(token)} has the id ${quote(id)}`);
}
