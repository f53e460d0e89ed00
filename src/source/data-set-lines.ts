import { InputError } from "../errors.js";
import type { DataSetFiles } from "./data-set-files.js";

/** A first read that is enough for a few hundred pages of text; the next are twice as long each, up to the most. */
const FIRST_BYTES = 256 * 1024;
const MOST_BYTES = 4 * 1024 * 1024;

/** Packed bytes that are unpacked at a time: a thousand times as many at worst. */
const FED_BYTES = 64 * 1024;

/** Far more than a line of text has; what is longer is something else. */
const LONGEST_LINE = 64 * 1024 * 1024;

/**
 * The lines of a file, without their ends, from its start; or from the first line that begins after `from`, and after the file's end from its start to
 * there, but for the line that `from` lies in. What ends in `.gz` is unpacked, and can be read from its start only. Pieces are asked for as lines are, so
 * that little is read of a large file for its first lines.
 */
export async function* linesOf(files: DataSetFiles, path: string, from = 0): AsyncGenerator<string> {
  const size = files.files.get(path)!;
  if (from === 0) {
    yield* split(path.endsWith(".gz") ? unpacked(piecesOf(files, path, 0, size), `${files.label}/${path}`) : piecesOf(files, path, 0, size), true, `${files.label}/${path}`);
    return;
  }
  let first = true;
  for await (const line of split(piecesOf(files, path, from, size), true, `${files.label}/${path}`)) {
    if (!first) yield line;
    first = false;
  }
  yield* split(piecesOf(files, path, 0, from), false, `${files.label}/${path}`);
}

async function* piecesOf(files: DataSetFiles, path: string, start: number, end: number): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let bytes = FIRST_BYTES;
  for (let at = start; at < end; at = Math.min(end, at + bytes), bytes = Math.min(2 * bytes, MOST_BYTES)) {
    yield await files.read(path, at, Math.min(end, at + bytes));
  }
}

/** @param whole what follows the last line end is a line as well, and not one that was cut */
async function* split(pieces: AsyncIterable<Uint8Array>, whole: boolean, label: string): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  /** Of the line under way: put together once, however many pieces it is of. */
  let rest: string[] = [];
  let length = 0;
  for await (const piece of pieces) {
    const text = decoder.decode(piece, { stream: true });
    rest.push(text);
    length += text.length;
    if (text.includes("\n")) {
      const lines = rest.join("").split("\n");
      rest = [lines.pop()!];
      length = rest[0].length;
      yield* lines;
    }
    if (length > LONGEST_LINE) throw new InputError(`${label}: has a line of more than ${String(LONGEST_LINE)} characters`);
  }
  const last = rest.join("") + decoder.decode();
  if (whole && last !== "") yield last;
}

/**
 * Unpacks gzip as it comes. The stream is fed by hand, a little at a time and once what came before is out: in Node 20 and 22 it takes in all that it is
 * given and holds what comes of it, however much that is.
 */
async function* unpacked(pieces: AsyncIterable<Uint8Array<ArrayBuffer>>, label: string): AsyncGenerator<Uint8Array> {
  const { readable, writable } = new DecompressionStream("gzip");
  const reader = readable.getReader();
  const writer = writable.getWriter();
  const damaged = (error: unknown): never => {
    throw new InputError(`${label}: cannot be unpacked (${error instanceof Error ? error.message : String(error)})`, { cause: error });
  };
  let reading = reader.read();
  reading.catch(() => undefined);
  /** What comes out by the time that `fed` is over. */
  async function* out(fed: Promise<unknown>): AsyncGenerator<Uint8Array> {
    const over = fed.then(() => new Promise<undefined>((resolve) => setTimeout(resolve)));
    over.catch(() => undefined);
    for (;;) {
      const result = await Promise.race([reading, over]).catch(damaged);
      if (result === undefined || result.done) return;
      reading = reader.read();
      reading.catch(() => undefined);
      yield result.value;
    }
  }
  try {
    for await (const piece of pieces) {
      for (let at = 0; at < piece.length; at += FED_BYTES) yield* out(writer.write(piece.subarray(at, at + FED_BYTES)));
    }
    const closed = writer.close();
    yield* out(closed.then(() => new Promise<never>(() => undefined)));
  } finally {
    await Promise.allSettled([reader.cancel(), writer.abort()]);
  }
}
