import { InputError } from "../errors.js";

/** A line that holds nothing but this divides the documents of a plain text. */
const SEPARATORS = new Set(["=====", "<|endoftext|>"]);

/**
 * The documents in text files of the user's, in order. A file whose name ends in `.jsonl` holds one JSON object a line, with its
 * text in `text` or `content`, or as a conversation in `messages` or `conversations`; any other file is plain text, divided
 * by lines of `=====` or `<|endoftext|>`, and one document where it has none. Throws `InputError` for a file without text, and for
 * a line of JSONL that cannot be read, by its number.
 */
export function documentsOf(files: Iterable<{ readonly name: string; readonly text: string }>): string[] {
  const all: string[] = [];
  for (const { name, text } of files) {
    const documents = name.toLowerCase().endsWith(".jsonl") ? documentsOfJsonLines(name, text) : documentsOfText(text);
    const filled = documents.filter((document) => document.trim() !== "");
    if (filled.length === 0) throw new InputError(`${name}: holds no text`);
    for (const document of filled) all.push(document);
  }
  return all;
}

function documentsOfText(text: string): string[] {
  const documents: string[] = [];
  let start = 0; // of the document under way
  let line = 0;
  while (line < text.length) {
    const end = text.indexOf("\n", line);
    const next = end < 0 ? text.length : end + 1;
    // No separator is longer than a few characters; long lines need not be copied.
    if (next - line < 32 && SEPARATORS.has(text.slice(line, next).trim())) {
      documents.push(text.slice(start, line));
      start = next;
    }
    line = next;
  }
  // An undivided text stays as it is, to the character; the line ends around separators belong to the separators.
  if (start === 0) return [text];
  documents.push(text.slice(start));
  return documents.map((document) => document.replace(/^(?:\r?\n)+|(?:\r?\n)+$/g, ""));
}

function documentsOfJsonLines(name: string, text: string): string[] {
  const documents: string[] = [];
  text.split("\n").forEach((line, i) => {
    if (line.trim() === "") return;
    const where = `${name}, line ${i + 1}`;
    documents.push(textOfRecord(where, parseJson(where, line)));
  });
  return documents;
}

function parseJson(where: string, line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw new InputError(`${where}: not JSON`);
  }
}

function textOfRecord(where: string, record: unknown): string {
  if (!isObject(record)) throw new InputError(`${where}: not a JSON object`);
  for (const key of ["text", "content"]) {
    const value = record[key];
    if (typeof value === "string") return value;
    if (value !== undefined) throw new InputError(`${where}: "${key}" is not a string`);
  }
  for (const key of ["messages", "conversations"]) {
    const value = record[key];
    if (value !== undefined) return textOfConversation(`${where}: "${key}"`, value);
  }
  throw new InputError(`${where}: has none of "text", "content", "messages" and "conversations"`);
}

/** What was said, turn by turn, with a blank line between. Roles are left out: how they are written is the chat template's matter. */
function textOfConversation(where: string, turns: unknown): string {
  if (!Array.isArray(turns)) throw new InputError(`${where} is not an array`);
  const said = turns.map((turn: unknown, i) => {
    const content = isObject(turn) ? turn["content"] : undefined;
    if (typeof content !== "string") throw new InputError(`${where}, turn ${i + 1}: "content" is not a string`);
    return content;
  });
  return said.join("\n\n");
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
