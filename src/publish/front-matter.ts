import { parseDocument, visit, type Document, type Node } from "yaml";

/** A README.md in the Hub's way: YAML between two lines of `---`, and the text. */
export interface SplitCard {
  /** The YAML between the lines; absent if there is none. */
  readonly yaml?: string;
  readonly text: string;
}

const FRONT_MATTER = /^\uFEFF?---[ \t]*\r?\n(?:([\s\S]*?)\r?\n)?---[ \t]*(?:\r?\n|$)/;

/** Takes a card apart. */
export function splitCard(card: string): SplitCard {
  const found = FRONT_MATTER.exec(card);
  if (found === null) return { text: card };
  return { yaml: found[1] ?? "", text: card.slice(found[0].length) };
}

/** Parses front matter, comments and all; undefined for what is no YAML mapping. */
export function parseFrontMatter(yaml: string): Document | undefined {
  const document = parseDocument(yaml);
  if (document.errors.length > 0) return undefined;
  try {
    const values: unknown = document.toJS();
    if (values === null && yaml.trim() === "") return parseDocument("{}");
    return typeof values === "object" && values !== null && !Array.isArray(values) ? document : undefined;
  } catch {
    // Aliases that multiply without end.
    return undefined;
  }
}

/** A string, or a list of strings; undefined for anything else. */
export function textsIn(document: Document | undefined, key: string): string | readonly string[] | undefined {
  const value = (document?.toJS() as Record<string, unknown> | undefined)?.[key];
  if (typeof value === "string") return value;
  return Array.isArray(value) && value.every((one) => typeof one === "string") ? value : undefined;
}

/** What Python's huggingface_hub, which reads YAML 1.1, takes for no string: Norwegian, of all languages, is one. */
const NO_STRING = /^(?:y|n|yes|no|on|off)$/i;

/** A value as a part of a document that readers of YAML 1.1 take for what it is. */
export function nodeOf(document: Document, value: unknown): Node {
  const node = document.createNode(value);
  visit(node, {
    Scalar(_, scalar) {
      if (typeof scalar.value === "string" && NO_STRING.test(scalar.value)) scalar.type = "QUOTE_DOUBLE";
    },
  });
  return node;
}
