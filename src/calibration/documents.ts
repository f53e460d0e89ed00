import { InputError } from "../errors.js";
import { isJsonObject } from "../safetensors/json.js";

/** A line that holds nothing but this divides the documents of a plain text. */
const SEPARATORS = new Set(["=====", "<|endoftext|>"]);

/** What was said in a conversation, and who said it: `system`, `user`, `assistant` and what else the model's chat template knows. */
export interface Turn {
  readonly role?: string;
  readonly content: string;
}

/** A text, or a conversation that is yet to be written out as the model is used to it. */
export type Document = string | readonly Turn[];

/** Where a record keeps its text. The fields of a list are what user and assistant say in turn. */
export type RecordField = string | readonly string[];

/** Fields that are looked for where none is named, in this order. */
export const TEXT_FIELDS: readonly string[] = ["text", "content", "messages", "conversations"];

/**
 * The documents in text files of the user's, in order. A file whose name ends in `.jsonl` holds one JSON object a line, with its
 * text in `text` or `content`, or as a conversation in `messages` or `conversations`; any other file is plain text, divided
 * by lines of `=====` or `<|endoftext|>`, and one document where it has none. Throws `InputError` for a file without text, and for
 * a line of JSONL that cannot be read, by its number.
 */
export function conversationsAndTextsOf(files: Iterable<{ readonly name: string; readonly text: string }>): Document[] {
  const all: Document[] = [];
  for (const { name, text } of files) {
    const documents = name.toLowerCase().endsWith(".jsonl") ? documentsOfJsonLines(name, text) : documentsOfText(text);
    const filled = documents.filter((document) => !isEmpty(document));
    if (filled.length === 0) throw new InputError(`${name}: holds no text`);
    for (const document of filled) all.push(document);
  }
  return all;
}

/** What was said, turn by turn, with a blank line between. Roles are left out: how they are written is the chat template's matter. */
export function joinedTurns(document: Document): string {
  return typeof document === "string" ? document : document.map(({ content }) => content).join("\n\n");
}

export function isEmpty(document: Document): boolean {
  return joinedTurns(document).trim() === "";
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

function documentsOfJsonLines(name: string, text: string): Document[] {
  const documents: Document[] = [];
  text.split("\n").forEach((line, i) => {
    if (line.trim() !== "") documents.push(documentOfJson(`${name}, line ${i + 1}`, line));
  });
  return documents;
}

/** The document in one line of JSONL. Throws `InputError` saying `where` it lies. */
export function documentOfJson(where: string, line: string, field?: RecordField): Document {
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch {
    throw new InputError(`${where}: not JSON`);
  }
  if (!isJsonObject(record)) throw new InputError(`${where}: not a JSON object`);
  return documentOfRecord(where, record, field);
}

/** The document in a record, a row of a table or an object in JSONL. Throws `InputError` saying `where` it lies. */
export function documentOfRecord(where: string, record: Readonly<Record<string, unknown>>, field?: RecordField): Document {
  if (typeof field === "object") {
    return field.map((name, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content: stringOf(where, name, record[name]) }));
  }
  const name = field ?? TEXT_FIELDS.find((name) => record[name] !== undefined);
  if (name === undefined) throw new InputError(`${where}: has none of "text", "content", "messages" and "conversations"`);
  const value = record[name];
  // Both are names of conversations only.
  if (Array.isArray(value) ? name !== "text" && name !== "content" : name === "messages" || name === "conversations") return turnsOf(`${where}: "${name}"`, value);
  return stringOf(where, name, value);
}

function stringOf(where: string, name: string, value: unknown): string {
  if (typeof value === "string") return value;
  throw new InputError(`${where}: "${name}" is not a string`);
}

/** Who speaks in data sets that say `from` and `value`. */
const SPEAKERS: Readonly<Record<string, string>> = { human: "user", gpt: "assistant" };

function turnsOf(where: string, turns: unknown): Turn[] {
  if (!Array.isArray(turns)) throw new InputError(`${where} is not an array`);
  return turns.map((turn: unknown, i) => {
    const { role, content, from, value } = isJsonObject(turn) ? turn : {};
    if (typeof content === "string") return { content, ...(typeof role === "string" && { role }) };
    if (typeof from === "string" && typeof value === "string") return { role: Object.hasOwn(SPEAKERS, from) ? SPEAKERS[from] : from, content: value };
    throw new InputError(`${where}, turn ${i + 1}: "content" is not a string`);
  });
}
