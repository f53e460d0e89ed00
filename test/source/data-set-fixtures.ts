import { readFileSync } from "node:fs";
import type { DataSetFiles } from "#src/source/data-set-files.js";

/** One of test/fixtures/data-sets, which scripts/make-data-set-fixtures.py makes. */
export function fixture(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(new URL(`../fixtures/data-sets/${name}`, import.meta.url)));
}

/** A data set in memory that tells which bytes of it were read. */
export function dataSetOf(contents: Readonly<Record<string, Uint8Array<ArrayBuffer> | string>>): DataSetFiles & { readonly reads: [path: string, start: number, end: number][]; bytesRead(): number } {
  const bytes = new Map(Object.entries(contents).map(([path, content]) => [path, typeof content === "string" ? new TextEncoder().encode(content) : content]));
  const reads: [string, number, number][] = [];
  return {
    label: "org/set@0123abcd", repo: "org/set", commit: "0123abcd".repeat(5),
    files: new Map([...bytes].map(([path, { length }]) => [path, length])),
    read: (path, start, end) => {
      reads.push([path, start, end]);
      return Promise.resolve(bytes.get(path)!.slice(start, end));
    },
    reads,
    bytesRead: () => reads.reduce((sum, [, start, end]) => sum + end - start, 0),
  };
}

export async function take<T>(documents: AsyncIterable<T>, count = Infinity): Promise<T[]> {
  const all: T[] = [];
  for await (const document of documents) {
    all.push(document);
    if (all.length >= count) break;
  }
  return all;
}
