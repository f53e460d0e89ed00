import { Template } from "@huggingface/jinja";

import type { Turn } from "./documents.js";

/** Writes conversations out as a model is used to them. */
export interface ChatTemplate {
  /** With all special tokens, as transformers' `apply_chat_template(turns, tokenize=False)`. Throws where the template takes no such conversation. */
  render(turns: readonly Turn[]): string;
}

/** Special tokens that a template may name. */
const TOKENS = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/** What templates that write today's date are told: Llama 3's own date for want of another. The same run must give the same tokens tomorrow. */
const DATE = new Date(2024, 6, 26);

/** What `strftime_now` is called here: the library lets nobody take the place of its own. */
const CLOCK = "strftime_then";

/** The chat template of a checkpoint, from the texts of chat_template.jinja and of tokenizer_config.json. None, where neither has any. */
export function chatTemplateOf(jinja: string | undefined, tokenizerConfigJson: string | undefined): ChatTemplate | undefined {
  const config = tokenizerConfigJson === undefined ? {} : (JSON.parse(tokenizerConfigJson) as Record<string, unknown>);
  const source = chatTemplateSource(jinja, config);
  if (source === undefined) return undefined;
  const tokens = Object.fromEntries(TOKENS.flatMap((name) => {
    const value = contentOf(config[name]);
    return value === undefined ? [] : [[name, value]];
  }));
  let template: Template | undefined;
  return {
    render(turns) {
      if (turns.some(({ role }) => role === undefined)) throw new Error("a turn has no role");
      template ??= new Template(source.replaceAll("strftime_now", CLOCK));
      return template.render({ ...tokens, messages: turns, add_generation_prompt: false, tools: null, documents: null, [CLOCK]: strftime });
    },
  };
}

/**
 * A checkpoint's chat template as it is written: chat_template.jinja goes first; `chat_template` of tokenizer_config.json, parsed, is
 * a template, or a list of which the one named `default` is meant.
 */
export function chatTemplateSource(jinja: string | undefined, tokenizerConfig: Readonly<Record<string, unknown>>): string | undefined {
  return jinja ?? defaultOf(tokenizerConfig["chat_template"]);
}

function defaultOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const all = value as readonly { readonly name?: unknown; readonly template?: unknown }[];
  const found = all.find((entry) => entry.name === "default")?.template;
  return typeof found === "string" ? found : undefined;
}

/** The text of a token in tokenizer_config.json, which has it as such, or as an object around it. */
export function contentOf(value: unknown): string | undefined {
  const content = typeof value === "object" && value !== null ? (value as { readonly content?: unknown }).content : value;
  return typeof content === "string" ? content : undefined;
}

/** Python's `strftime` on the fixed date, in English, as far as templates use it. */
function strftime(format: string): string {
  const english = (options: Intl.DateTimeFormatOptions): string => new Intl.DateTimeFormat("en", options).format(DATE);
  const parts: Readonly<Record<string, string>> = {
    "%Y": "2024", "%m": "07", "%d": "26", "%b": english({ month: "short" }), "%B": english({ month: "long" }), "%A": english({ weekday: "long" }), "%a": english({ weekday: "short" }),
    "%H": "00", "%M": "00", "%S": "00", "%%": "%",
  };
  return format.replace(/%./g, (part) => parts[part] ?? part);
}
