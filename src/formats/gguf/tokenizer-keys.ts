import { chatTemplateSource } from "../../calibration/chat-template.js";
import { InputError } from "../../errors.js";
import { parseJsonObject, quote, type JsonObject } from "../../safetensors/json.js";
import type { ModelToWrite } from "../format.js";
import { preTokenizerName } from "./pre-tokenizers.js";
import { scoresOf, spacePrefixOf } from "./sentencepiece.js";
import { specialTokenKeys } from "./special-tokens.js";
import { tokenList, type TokenList } from "./token-list.js";
import { readTokenizerFile, type TokenizerFile } from "./tokenizer-file.js";
import type { GgufKey } from "./values.js";

/** Deeper than any tokenizer file is. */
const MAX_DEPTH = 64;

/**
 * The keys `tokenizer.*`, with which llama.cpp gives the ids that transformers gives, from the model's tokenizer files; as many tokens as
 * the embedding has rows (`vocabSize`). A byte-level BPE becomes llama.cpp's `gpt2`, one like SentencePiece's its `llama`.
 *
 * What llama.cpp cannot: it does not normalize (Qwen's tokenizers compose letters and accents, NFC); where it puts a space before a text,
 * it does so too where the text begins with one, and after each special token (transformers does neither where the tokenizer has
 * a `Metaspace`, as Mistral's); GPT-4o's and Mistral Nemo's words end for it at a combining mark; merges do not reach across bytes that
 * no token has, which it leaves out as well; it knows no `lstrip` or `rstrip` of added tokens. Throws `InputError` for a tokenizer of
 * any other kind.
 */
export async function tokenizerKeys(model: Pick<ModelToWrite, "config" | "files" | "readFile">, vocabSize: number): Promise<GgufKey[]> {
  const read = async (name: string): Promise<JsonObject | undefined> => (model.files.has(name) ? parseJsonObject(await model.readFile(name), name, MAX_DEPTH) : undefined);
  const json = await read("tokenizer.json");
  if (json === undefined) throw new InputError("tokenizer.json is missing, and a GGUF file holds the tokenizer");
  const tokenizerConfig = (await read("tokenizer_config.json")) ?? {};
  const generationConfig = (await read("generation_config.json")) ?? {};
  const jinja = model.files.has("chat_template.jinja") ? new TextDecoder().decode(await model.readFile("chat_template.jinja")) : undefined;

  const file = readTokenizerFile(json, tokenizerConfig);
  const spacePrefix = spacePrefixOf(file);
  const list = tokenList(file, vocabSize, spacePrefix === undefined ? "gpt2" : "llama");
  const template = chatTemplateSource(jinja, tokenizerConfig);
  return [
    ...(spacePrefix === undefined ? byteLevelKeys(file) : sentencePieceKeys(file, list, spacePrefix)),
    ["tokenizer.ggml.tokens", { type: "array", of: "string", values: list.tokens }],
    ["tokenizer.ggml.token_type", { type: "array", of: "i32", values: list.types }],
    ...specialTokenKeys(file, { config: model.config, tokenizerConfig, generationConfig }, list.tokens),
    ...(template === undefined ? [] : [["tokenizer.chat_template", { type: "string", value: template }] satisfies GgufKey]),
  ];
}

function sentencePieceKeys(file: TokenizerFile, list: TokenList, spacePrefix: boolean): GgufKey[] {
  return [
    ["tokenizer.ggml.model", { type: "string", value: "llama" }],
    ["tokenizer.ggml.pre", { type: "string", value: "default" }],
    ["tokenizer.ggml.scores", { type: "array", of: "f32", values: scoresOf(file, list) }],
    ["tokenizer.ggml.add_space_prefix", { type: "bool", value: spacePrefix }],
  ];
}

function byteLevelKeys({ preTokenizer, ignoreMerges, normalizers, merges }: TokenizerFile): GgufKey[] {
  const other = normalizers.find(({ type }) => type !== "NFC");
  if (other !== undefined) throw new InputError(`tokenizer.json: llama.cpp knows no normalizer like ${quote(other)}`);
  // A merge with a space in it applies to nothing: a byte-level BPE writes spaces as Ġ.
  const usable = merges.filter((pair) => !pair.some((part) => part.includes(" ")));
  return [
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: preTokenizerName(preTokenizer, ignoreMerges) }],
    ["tokenizer.ggml.merges", { type: "array", of: "string", values: usable.map((pair) => pair.join(" ")) }],
  ];
}
