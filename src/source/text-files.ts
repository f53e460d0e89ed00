import { readFile, readdir, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, extname, join } from "node:path";

import { InputError } from "../errors.js";
import type { NamedDataSet } from "./named-data-set.js";

/** A text with the name of the file that it was read from. */
export interface TextFile {
  readonly name: string;
  readonly text: string;
}

/** What is taken from a folder; a file that is named itself may have any extension. */
const EXTENSIONS = new Set([".txt", ".jsonl"]);

/** V8's strings end at 2^29 - 24 code units; far below that, calibration text has long been enough. */
const MAX_TEXT_BYTES = 256 * 1024 * 1024;

/**
 * Reads a text file, or all `.txt` and `.jsonl` files at the top level of a folder in the order of their names' code units.
 * Throws `InputError` by name for a path that does not exist, a folder without such files, a file that is empty, too large or not UTF-8.
 */
export async function readTextFiles(path: string): Promise<TextFile[]> {
  const found = await stat(path).catch((error: unknown) => {
    throw new InputError(`${path}: cannot be read (${codeOf(error)})`);
  });
  if (!found.isDirectory()) return [await readTextFile(path)];
  const entries = await readdir(path, { withFileTypes: true });
  const names = entries
    .filter((entry) => !entry.isDirectory() && EXTENSIONS.has(extname(entry.name).toLowerCase()))
    .map((entry) => entry.name)
    .sort((a, b) => (a < b ? -1 : 1));
  if (names.length === 0) throw new InputError(`${path}: has no .txt or .jsonl file`);
  const files: TextFile[] = [];
  for (const name of names) files.push(await readTextFile(join(path, name)));
  return files;
}

/** The calibration text that comes with the package, file by file; the same bytes in a clone and in an installed package. */
export async function builtinCalibrationText(): Promise<TextFile[]> {
  const one = createRequire(import.meta.url).resolve("#calibration-data/multilingual.txt");
  const files = await readTextFiles(dirname(one));
  return files.map((file) => ({ name: `built-in ${basename(file.name)}`, text: file.text }));
}

/** The data sets that have names, which come with the package as well. */
export async function namedDataSets(): Promise<NamedDataSet[]> {
  return JSON.parse(await readFile(createRequire(import.meta.url).resolve("#calibration-data/data-sets.json"), "utf8")) as NamedDataSet[];
}

async function readTextFile(path: string): Promise<TextFile> {
  const bytes = await readBytes(path);
  if (bytes.length === 0) throw new InputError(`${path}: is empty`);
  try {
    return { name: path, text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
  } catch {
    throw new InputError(`${path}: is not UTF-8 text`);
  }
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > MAX_TEXT_BYTES) throw new InputError(`${path}: ${size} bytes are more than the ${MAX_TEXT_BYTES} that a calibration text may have`);
    return await readFile(path);
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(`${path}: cannot be read (${codeOf(error)})`);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
