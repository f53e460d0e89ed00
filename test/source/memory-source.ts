import { InputError } from "#src/errors.js";
import type { Source } from "#src/source/source.js";

/** A source in memory that remembers what was read: "file start-end". */
export class MemorySource implements Source {
  readonly label = "repo";
  readonly reads: string[] = [];

  constructor(readonly contents: Map<string, Uint8Array>) {}

  list(): Promise<Map<string, number>> {
    return Promise.resolve(new Map([...this.contents].map(([name, bytes]) => [name, bytes.length])));
  }

  read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    this.reads.push(`${path} ${start}-${end}`);
    const bytes = this.contents.get(path);
    if (!bytes || bytes.length < end) return Promise.reject(new InputError(`${path} is missing or short`));
    return Promise.resolve(bytes.slice(start, end));
  }

  fingerprint(path: string): Promise<string> {
    return Promise.resolve(`state of ${path}`);
  }
}
