/** A node of tokenizer.json that names what it is. */
interface Component {
  readonly type?: unknown;
  readonly [key: string]: unknown;
}

/** The words of GPT-2, as the Rust crate has them; `\s` is Unicode's White_Space there. */
const GPT2_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/**
 * Says the `pre_tokenizer` of a tokenizer.json in other words, for which `@huggingface/tokenizers` 0.2.0 does what the Rust crate
 * `tokenizers` 0.22 does for the original. Where the two differ:
 * - ByteLevel takes JavaScript's `\s`, which has U+FEFF and lacks U+0085; the library's Split translates `\s` rightly.
 *   (With `add_prefix_space` it is left alone: the space would come before every word.)
 * - Digits takes 0 to 9; the crate takes every numeric character (`\p{N}`).
 * - Metaspace does not split, even where `split` is true, its default.
 */
export function sameInRust(preTokenizer: unknown): unknown {
  if (!isComponent(preTokenizer)) return preTokenizer;
  const { type, pretokenizers } = preTokenizer;
  if (type === "Sequence" && Array.isArray(pretokenizers)) return { ...preTokenizer, pretokenizers: pretokenizers.map(sameInRust) };
  if (type === "ByteLevel" && preTokenizer["use_regex"] !== false && preTokenizer["add_prefix_space"] === false) {
    return sequence(isolated(GPT2_WORDS), { ...preTokenizer, use_regex: false });
  }
  if (type === "Digits") return isolated(preTokenizer["individual_digits"] === true ? String.raw`\p{N}` : String.raw`\p{N}+`);
  if (type === "Metaspace" && preTokenizer["split"] !== false) {
    const mark = `\\u{${(stringOr(preTokenizer["replacement"], "▁").codePointAt(0) ?? 0x2581).toString(16)}}`;
    return sequence(preTokenizer, isolated(`${mark}[^${mark}]*`));
  }
  return preTokenizer;
}

function sequence(...pretokenizers: Component[]): Component {
  return { type: "Sequence", pretokenizers };
}

/** Each match a word, and what lies between them as well. */
function isolated(regex: string): Component {
  return { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false };
}

function stringOr(value: unknown, otherwise: string): string {
  return typeof value === "string" ? value : otherwise;
}

function isComponent(value: unknown): value is Component {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
