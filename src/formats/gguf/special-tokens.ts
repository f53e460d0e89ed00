import { contentOf } from "../../calibration/chat-template.js";
import { InputError } from "../../errors.js";
import { isJsonObject, quote, type JsonObject } from "../../safetensors/json.js";
import type { TokenizerFile } from "./tokenizer-file.js";
import type { GgufKey } from "./values.js";

/** Tokens at which llama.cpp stops by their text alone. */
const KNOWN_STOPS = new Set([
  "</s>", "<eos>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|endoftext|>",
  "<|end_of_text|>", "<end_of_turn>", "<end_of_utterance>", "<｜end▁of▁sentence｜>",
]);

/** The JSON files beside tokenizer.json, an empty object for one that is not there. */
export interface TokenizerSettings {
  readonly config: JsonObject;
  readonly tokenizerConfig: JsonObject;
  readonly generationConfig: JsonObject;
}

/**
 * Keys for the tokens with a meaning of their own, and for those put around a text, by the post-processor as in transformers 5. Where
 * generation is to stop at more tokens than one, llama.cpp is told of those that it would not find by their text; two at most.
 */
export function specialTokenKeys(file: TokenizerFile, { config, tokenizerConfig, generationConfig }: TokenizerSettings, tokens: readonly string[]): GgufKey[] {
  const ids = new Map([...file.vocab, ...file.added.map(({ content, id }) => [content, id] as const)]);
  const named = (name: string): number | undefined => ids.get(contentOf(tokenizerConfig[name]) ?? "");
  const around = tokensAround(file.postProcessors);
  const stops = idsOf(generationConfig["eos_token_id"] ?? config["eos_token_id"]);
  const eos = around.after ?? named("eos_token") ?? stops[0];
  const [eot, eom] = stops.filter((id) => id !== eos && !KNOWN_STOPS.has(tokens[id]));
  const found: readonly (readonly [string, number | undefined])[] = [
    ["bos", around.before ?? named("bos_token") ?? idsOf(config["bos_token_id"])[0]],
    ["eos", eos],
    ["eot", eot],
    ["eom", eom],
    ["unknown", named("unk_token") ?? ids.get(file.unknown ?? "")],
    ["padding", named("pad_token") ?? idsOf(config["pad_token_id"])[0]],
  ];
  return [
    ...found.flatMap(([name, id]): GgufKey[] => (id === undefined || id >= tokens.length ? [] : [[`tokenizer.ggml.${name}_token_id`, { type: "u32", value: id }]])),
    ["tokenizer.ggml.add_bos_token", { type: "bool", value: around.before !== undefined }],
    ["tokenizer.ggml.add_eos_token", { type: "bool", value: around.after !== undefined }],
  ];
}

/** The tokens that are put before and after a text. */
function tokensAround(postProcessors: readonly JsonObject[]): { readonly before?: number; readonly after?: number } {
  const adding = postProcessors.filter(({ type }) => type !== "ByteLevel");
  const [template] = adding;
  if (template === undefined) return {};
  const { type, single, special_tokens: special } = template;
  if (adding.length === 1 && type === "TemplateProcessing" && Array.isArray(single) && isJsonObject(special)) {
    // The text itself stands as undefined among the tokens.
    const pieces = single.flatMap((piece: unknown): (number | undefined)[] => {
      const name = isJsonObject(piece) && isJsonObject(piece["SpecialToken"]) ? piece["SpecialToken"]["id"] : undefined;
      const entry = typeof name === "string" ? special[name] : undefined;
      return isJsonObject(entry) ? idsOf(entry["ids"]) : [undefined];
    });
    const text = pieces.indexOf(undefined);
    if (text >= 0 && text <= 1 && text === pieces.lastIndexOf(undefined) && pieces.length - text <= 2) return { before: pieces[text - 1], after: pieces[text + 1] };
  }
  throw new InputError(`tokenizer.json: llama.cpp puts one token at most before a text and one after it, and the post-processor is ${quote(postProcessors)}`);
}

/** One id or several, as eos_token_id can be. */
function idsOf(value: unknown): number[] {
  return [value].flat().filter((id): id is number => Number.isSafeInteger(id) && (id as number) >= 0);
}
