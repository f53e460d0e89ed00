import { joinRanges, type ByteRange, type FileRange, type JoinedRange } from "./ranges.js";
import type { Source } from "./source.js";

/** A file of one's own. */
export interface KeepingFile {
  write(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Fills `into` from `offset`. */
  read(offset: number, into: Uint8Array<ArrayBuffer>): Promise<void>;
}

/** Bytes of one of the source's files, from `at` on in the keeping file. */
export interface KeptRange extends FileRange {
  readonly at: number;
}

/** A source of which what is read is kept in a file, and when it is asked for again is read from there. */
export class KeptSource implements Source {
  readonly label: string;
  readonly hub: Source["hub"];
  /** By file, in order of their bytes. */
  private readonly kept = new Map<string, KeptRange[]>();
  private size = 0;
  private keeping = true;

  /** @param ranges what the file holds, where another process kept it; nothing is then kept beside that */
  constructor(private readonly source: Source, private readonly file: KeepingFile, ranges?: readonly KeptRange[]) {
    this.label = source.label;
    this.hub = source.hub;
    if (ranges === undefined) return;
    for (const range of ranges) this.hold(range);
    this.keeping = false;
  }

  /** What is read from now on is read once more by nobody, and is not kept. Returns what is, and the bytes of the file. */
  keepNoMore(): { readonly size: number; readonly ranges: readonly KeptRange[] } {
    this.keeping = false;
    return { size: this.size, ranges: [...this.kept.values()].flat() };
  }

  list(): Promise<ReadonlyMap<string, number>> {
    return this.source.list();
  }

  async read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const held = (this.kept.get(path) ?? []).filter((own) => own.start < end && own.end > start);
    if (held.length === 0) return this.fetch(path, { start, end, parts: [{ start, end }] });
    const bytes = new Uint8Array(end - start);
    // A few bytes that are held are read along where they lie between many that are not: requests cost more.
    for (const gap of joinRanges(gapsBetween(held, start, end))) {
      bytes.set(await this.fetch(path, gap), gap.start - start);
    }
    for (const own of held) {
      const from = Math.max(start, own.start);
      await this.file.read(own.at + from - own.start, bytes.subarray(from - start, Math.min(end, own.end) - start));
    }
    return bytes;
  }

  fingerprint(path: string): Promise<string> {
    return this.source.fingerprint(path);
  }

  /** Reads, and keeps those parts that nothing holds yet. */
  private async fetch(path: string, { start, end, parts }: JoinedRange<ByteRange>): Promise<Uint8Array<ArrayBuffer>> {
    const before = this.hub?.bytesRead();
    const bytes = await this.source.read(path, start, end);
    // What came from the cache on this machine need not be kept.
    const isNear = before !== undefined && this.hub?.bytesRead() === before;
    if (!isNear) for (const part of parts) await this.keep(path, part.start, bytes.subarray(part.start - start, part.end - start));
    return bytes;
  }

  private async keep(path: string, start: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.keeping || bytes.length === 0) return;
    const at = this.size;
    this.size += bytes.length;
    await this.file.write(at, bytes);
    this.hold({ file: path, start, end: start + bytes.length, at });
  }

  private hold(range: KeptRange): void {
    const all = this.kept.get(range.file) ?? [];
    this.kept.set(range.file, all);
    const next = all.findIndex((own) => own.start > range.start);
    all.splice(next < 0 ? all.length : next, 0, range);
  }
}

/** What of [start, end) is not held, in order. */
function gapsBetween(held: readonly ByteRange[], start: number, end: number): ByteRange[] {
  const gaps: ByteRange[] = [];
  let done = start;
  for (const own of held) {
    if (own.start > done) gaps.push({ start: done, end: own.start });
    done = Math.max(done, own.end);
  }
  if (done < end) gaps.push({ start: done, end });
  return gaps;
}
