import { documentOfJson, documentOfRecord, isEmpty, type Document, type RecordField } from "../calibration/documents.js";
import { mulberry32, shuffled } from "../calibration/random.js";
import { InputError } from "../errors.js";
import type { DataSetFiles } from "./data-set-files.js";
import { linesOf } from "./data-set-lines.js";
import { openParquet } from "./data-set-parquet.js";

/** Which documents of a data set are drawn, and how. */
export interface Draw {
  /** Files to draw from. */
  readonly paths: readonly string[];
  /** Where their records keep the text; if it is not said, where it usually is. */
  readonly field?: RecordField;
  /** Of files that hold a line a record: what the first line of a document looks like. */
  readonly begins?: RegExp;
  /** How many files are drawn from in turn. */
  readonly together?: number;
  readonly seed: number;
}

/** A JSONL file is read from its start, so that several bring more variety; of a Parquet file, rows of any place can be had. */
const LINES_TOGETHER = 4;

/** JSONL of more bytes than this is read from a place that the seed chooses. */
const LONG_FILE = 8 * 1024 * 1024;

/**
 * Documents of a data set in an order that the seed chooses, read as they are asked for: files by the seed, from a few of them in turn; of Parquet
 * files row groups by the seed, and rows within them; of JSONL files the lines in order, from some line on. No document comes twice; in the end, all have
 * come, but for those that a row group's end or the place to begin at cuts in two. The same files and the same seed give the same documents.
 */
export async function* documentsDrawn(files: DataSetFiles, draw: Draw): AsyncGenerator<Document> {
  const random = mulberry32(draw.seed);
  const waiting = shuffled([...draw.paths].sort(), random).map((path) => fileDrawn(files, path, draw, mulberry32(Math.floor(random() * 2 ** 32))));
  const together = draw.together ?? (draw.paths.every(isParquet) ? 1 : LINES_TOGETHER);
  const open = waiting.splice(0, together);
  try {
    for (let turn = 0; open.length > 0; ) {
      const next: IteratorResult<Document, unknown> = await open[turn].next();
      if (next.done === true) open.splice(turn, 1, ...waiting.splice(0, 1));
      else {
        yield next.value;
        turn++;
      }
      if (turn >= open.length) turn = 0;
    }
  } finally {
    for (const file of open) await file.return(undefined);
  }
}

async function* fileDrawn(files: DataSetFiles, path: string, draw: Draw, random: () => number): AsyncGenerator<Document> {
  for await (const document of isParquet(path) ? rowsDrawn(files, path, draw, random) : linesDrawn(files, path, draw, random)) if (!isEmpty(document)) yield document;
}

function isParquet(path: string): boolean {
  return path.endsWith(".parquet");
}

async function* rowsDrawn(files: DataSetFiles, path: string, { field, begins }: Draw, random: () => number): AsyncGenerator<Document> {
  const file = await openParquet(files, path, field);
  for (const group of shuffled(Array.from({ length: file.groups }, (_, i) => i), random)) {
    const rows = await file.rows(group);
    const documents = rows.flatMap((row, i) => documentsOfRow(`${files.label}/${path}, row ${String(i + 1)} of row group ${String(group + 1)}`, row, field));
    yield* shuffled(begins === undefined ? documents : joined(documents, begins), random);
  }
}

/** Rows may lack what others have. */
function documentsOfRow(where: string, row: Readonly<Record<string, unknown>>, field: RecordField | undefined): Document[] {
  return Object.values(row).some((value) => value === null || value === undefined) ? [] : [documentOfRecord(where, row, field)];
}

/**
 * Documents put together from their lines. What comes before the first beginning belongs to a document of the row group before, and the last
 * one may go on in the next: they are left out, unless there is nothing else.
 */
function joined(lines: readonly Document[], begins: RegExp): string[] {
  const documents: string[][] = [[]];
  for (const line of lines) {
    if (typeof line !== "string") continue;
    if (begins.test(line)) documents.push([]);
    documents.at(-1)!.push(line);
  }
  return (documents.length > 2 ? documents.slice(1, -1) : documents.slice(-1)).map((document) => document.join(""));
}

async function* linesDrawn(files: DataSetFiles, path: string, { field }: Draw, random: () => number): AsyncGenerator<Document> {
  const size = files.files.get(path)!;
  const from = path.endsWith(".gz") || size <= LONG_FILE ? 0 : Math.floor(random() * size);
  let number = 0;
  for await (const line of linesOf(files, path, from)) {
    number++;
    if (line.trim() === "") continue;
    if (number === 1 && line.trimStart().startsWith("[")) throw new InputError(`${files.label}/${path}: is a JSON array, and not an object a line; choose another data set, or take this one as Parquet: add @refs%2Fconvert%2Fparquet to its name`);
    yield documentOfJson(`${files.label}/${path}, line ${String(number)}${from > 0 ? ` from byte ${String(from)}` : ""}`, line, field);
  }
}
