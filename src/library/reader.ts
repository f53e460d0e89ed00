import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** Reads small files of a folder. */
export function readerOf(folder: string): (name: string) => Promise<string | undefined> {
  return (name) => readFile(join(folder, name), "utf8").catch(() => undefined);
}
