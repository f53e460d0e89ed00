import { InputError } from "../errors.js";

export type JsonObject = Record<string, unknown>;

/**
 * Parses a JSON object from bytes that may be hostile: they must be UTF-8, nest no deeper than `maxDepth`, and name no key of
 * an object twice (`JSON.parse` would silently keep the last one, other readers the first). `where` begins every message.
 * Keys such as `__proto__` become plain properties of their own.
 */
export function parseJsonObject(bytes: Uint8Array, where: string, maxDepth: number): JsonObject {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new InputError(`${where} is not valid UTF-8`);
  }
  checkStructure(text, where, maxDepth);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InputError(`${where} is not valid JSON: ${(error as Error).message}`);
  }
  if (!isJsonObject(value)) throw new InputError(`${where} is not a JSON object`);
  return value;
}

/** Whether a JSON value is an object, and neither null nor an array. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Longer than any name worth reading; a hostile file could fill the screen for hours. */
const MAX_QUOTED = 200;

/** A value from a file as JSON for a message: cut where it is long, without characters that would steer a terminal. */
export function quote(value: unknown): string {
  const json = JSON.stringify(value).replace(/[\u007f-\u009f]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`);
  return json.length > MAX_QUOTED ? `${json.slice(0, MAX_QUOTED)}…` : json;
}

const QUOTE = 0x22, COMMA = 0x2c, BACKSLASH = 0x5c, OPEN_ARRAY = 0x5b, CLOSE_ARRAY = 0x5d, OPEN_OBJECT = 0x7b, CLOSE_OBJECT = 0x7d;

/** Depth and repeated keys, in one walk over the text. Grammar is left to `JSON.parse`, which comes after. */
function checkStructure(text: string, where: string, maxDepth: number): void {
  /** The keys seen in each object around the innermost, `keys`; null for an array. */
  const outer: (Set<string> | null)[] = [];
  let keys: Set<string> | null = null;
  let keyNext = false;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case OPEN_OBJECT:
      case OPEN_ARRAY:
        if (outer.length === maxDepth) throw new InputError(`${where} nests deeper than ${maxDepth} levels`);
        outer.push(keys);
        keyNext = text.charCodeAt(i) === OPEN_OBJECT;
        keys = keyNext ? new Set() : null;
        break;
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        keys = outer.pop() ?? null;
        keyNext = false;
        break;
      case COMMA:
        keyNext = keys !== null;
        break;
      case QUOTE: {
        const end = endOfString(text, i);
        if (keyNext) {
          const key = decode(text.slice(i, end + 1));
          if (keys!.has(key)) throw new InputError(`${where} repeats the key ${quote(key)}`);
          keys!.add(key);
          keyNext = false;
        }
        i = end;
        break;
      }
    }
  }
}

/** Index of the quote that closes the string opened at `start`; the end of the text if none does. */
function endOfString(text: string, start: number): number {
  let end = start;
  for (;;) {
    end = text.indexOf('"', end + 1);
    if (end < 0) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return end;
  }
}

/** A key without its escapes, for comparing. What is no JSON string is left as it is: `JSON.parse` will refuse the whole. */
function decode(literal: string): string {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    return JSON.parse(literal) as string;
  } catch {
    return literal;
  }
}
