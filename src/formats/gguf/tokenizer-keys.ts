import { chatTemplateSource } from "../../calibration/chat-template.js";
import { InputError } from "../../errors.js";
import { parseJsonObject, quote, type JsonObject } from "../../safetensors/json.js";
import type { ModelToWrite } from "../format.js";
import { preTokenizerName } from "./pre-tokenizers.js";
import { scoresOf, spacePrefixOf } from "./sentencepiece.js";
import { specialTokenKeys } from "./special-tokens.js";
import { tokenList } from "./token-list.js";
import { readTokenizerFile, type TokenizerFile } from "./tokenizer-file.js";
import type { GgufKey } from "./values.js";

/** Deeper than any tokenizer file is. */
const MAX_DEPTH = 64;

/**
 * The keys `tokenizer.*`, with which llama.cpp gives the ids that transformers gives, from the model's tokenizer files; as many tokens as
 * the embedding has rows (`vocabSize`). A byte-level BPE becomes llama.cpp's `gpt2`, one like SentencePiece's its `llama`.
 *
 * What llama.cpp cannot: it does not normalize (Qwen's tokenizers compose letters and accents, NFC); it always takes a space before
 * a text, also where the text begins with one, and after a special token (transformers does neither where the tokenizer has a
 * `Metaspace`, as Mistral's); it knows no `lstrip` or `rstrip` of added tokens. Throws `InputError` for a tokenizer of any other kind.
 */
export async function tokenizerKeys(model: Pick<ModelToWrite, "config" | "files" | "readFile">, vocabSize: number): Promise<GgufKey[]> {
  const read = async (name: string): Promise<JsonObject | undefined> => (model.files.has(name) ? parseJsonObject(await model.readFile(name), name, MAX_DEPTH) : undefined);
  const json = await read("tokenizer.json");
  if (json === undefined) throw new InputError("tokenizer.json is missing, and a GGUF file holds the tokenizer");
  const tokenizerConfig = (await read("tokenizer_config.json")) ?? {};
  const generationConfig = (await read("generation_config.json")) ?? {};
  const jinja = model.files.has("chat_template.jinja") ? new TextDecoder().decode(await model.readFile("chat_template.jinja")) : undefined;

  const file = readTokenizerFile(json, tokenizerConfig);
  const { kind, keys } = kindOf(file, vocabSize);
  const { tokens, types } = tokenList(file, vocabSize, kind);
  const template = chatTemplateSource(jinja, tokenizerConfig);
  return [
    ["tokenizer.ggml.model", { type: "string", value: kind }],
    ...keys,
    ["tokenizer.ggml.tokens", { type: "array", of: "string", values: tokens }],
    ["tokenizer.ggml.token_type", { type: "array", of: "i32", values: types }],
    ...specialTokenKeys(file, { config: model.config, tokenizerConfig, generationConfig }, tokens),
    ...(template === undefined ? [] : [["tokenizer.chat_template", { type: "string", value: template }] satisfies GgufKey]),
  ];
}

/** What llama.cpp calls this kind of tokenizer, and the keys that only this kind has. */
function kindOf(file: TokenizerFile, size: number): { readonly kind: "llama" | "gpt2"; readonly keys: GgufKey[] } {
  const spacePrefix = spacePrefixOf(file);
  if (spacePrefix !== undefined) {
    return {
      kind: "llama",
      keys: [
        ["tokenizer.ggml.pre", { type: "string", value: "default" }],
        ["tokenizer.ggml.scores", { type: "array", of: "f32", values: scoresOf(file, size) }],
        ["tokenizer.ggml.add_space_prefix", { type: "bool", value: spacePrefix }],
      ],
    };
  }
  const pre = preTokenizerName(file.preTokenizer, file.ignoreMerges);
  const other = file.normalizers.find(({ type }) => type !== "NFC");
  if (other !== undefined) throw new InputError(`tokenizer.json: llama.cpp knows no normalizer like ${quote(other)}`);
  return {
    kind: "gpt2",
    keys: [
      ["tokenizer.ggml.pre", { type: "string", value: pre }],
      // A merge with a space in it applies to nothing: a byte-level BPE writes spaces as Ġ.
      ["tokenizer.ggml.merges", { type: "array", of: "string", values: file.merges.filter((pair) => !pair.some((part) => part.includes(" "))).map((pair) => pair.join(" ")) }],
    ],
  };
}
