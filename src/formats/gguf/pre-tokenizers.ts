import { sameInRust } from "../../calibration/pre-tokenizer.js";
import { InputError } from "../../errors.js";
import { isJsonObject, quote } from "../../safetensors/json.js";
import { stepsOf } from "./tokenizer-file.js";

/** How a byte-level BPE splits a text into words, within which its merges stay. */
interface PreTokenizer {
  /** What llama.cpp calls it. */
  readonly name: string;
  /** Each splits what those before it left, at its matches. */
  readonly regexes: readonly string[];
  /** Whether a word that is a token is taken whole, though merges do not come to it. */
  readonly ignoreMerges: boolean;
}

const DIGIT = String.raw`\p{N}`;
const UP_TO_THREE_DIGITS = String.raw`\p{N}{1,3}`;
const CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const SPACES = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;
const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
/** GPT-4's, in which models differ by how many digits make a word. */
const gpt4 = (digits: string): string => String.raw`${CONTRACTION}|[^\r\n\p{L}\p{N}]?\p{L}+|${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|${SPACES}`;
/** GPT-4o's, which also splits where capitals follow small letters. */
const gpt4o = (contraction: string, digits: string): string =>
  String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+${contraction}`
  + String.raw`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*${contraction}`
  + String.raw`|${digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|${SPACES}`;

/** Those of llama.cpp (`llm_tokenizer_bpe` in its src/llama-vocab.cpp) that models of our families have; of several names for one, the best known. */
const KNOWN: readonly PreTokenizer[] = [
  { name: "llama-bpe", regexes: [gpt4(UP_TO_THREE_DIGITS)], ignoreMerges: true },
  { name: "smaug-bpe", regexes: [gpt4(UP_TO_THREE_DIGITS)], ignoreMerges: false },
  { name: "qwen2", regexes: [gpt4(DIGIT)], ignoreMerges: false },
  { name: "gpt-2", regexes: [GPT2], ignoreMerges: false },
  { name: "smollm", regexes: [DIGIT, GPT2], ignoreMerges: false },
  { name: "tekken", regexes: [gpt4o("", DIGIT)], ignoreMerges: true },
  { name: "gpt-4o", regexes: [gpt4o(`${CONTRACTION}?`, UP_TO_THREE_DIGITS)], ignoreMerges: false },
  { name: "minicpm5", regexes: [UP_TO_THREE_DIGITS, gpt4(String.raw`\p{N}+`)], ignoreMerges: true },
  { name: "deepseek-coder", regexes: [String.raw`[\r\n]`, String.raw`\s?\p{L}+`, String.raw`\s?\p{P}+`, "[一-龥ࠀ-一가-퟿]+", DIGIT], ignoreMerges: false },
];

/**
 * What llama.cpp calls the way in which a byte-level tokenizer.json splits texts (`tokenizer.ggml.pre`), by its regular expressions
 * and `ignore_merges`. Throws `InputError` where llama.cpp has no such way.
 */
export function preTokenizerName(preTokenizer: unknown, ignoreMerges: boolean): string {
  const regexes = regexesOf(preTokenizer)?.join("\n");
  const found = KNOWN.find((known) => known.ignoreMerges === ignoreMerges && known.regexes.join("\n") === regexes);
  if (found !== undefined) return found.name;
  throw new InputError(`tokenizer.json: llama.cpp knows no pre-tokenizer like ${quote(preTokenizer)} with ignore_merges ${ignoreMerges}`);
}

/** The regular expressions by which a text is split before its bytes are written as characters; undefined where more is done to it. */
function regexesOf(preTokenizer: unknown): string[] | undefined {
  const steps = stepsOf(sameInRust(preTokenizer), "pretokenizers");
  const last = steps.pop();
  if (last?.["type"] !== "ByteLevel" || last["use_regex"] !== false || last["add_prefix_space"] !== false) return undefined;
  const regexes = steps.map(({ type, pattern, behavior, invert }) => {
    const regex = type === "Split" && isJsonObject(pattern) ? pattern["Regex"] : undefined;
    // That all but the matches is removed says the same, where there is nothing but matches: so it is with every lone one that is known.
    const isolated = (behavior === "Isolated" && invert === false) || (behavior === "Removed" && invert === true && steps.length === 1);
    return typeof regex === "string" && isolated ? regex.replaceAll("\r", "\\r").replaceAll("\n", "\\n") : undefined;
  });
  return regexes.every((regex) => regex !== undefined) ? regexes : undefined;
}
