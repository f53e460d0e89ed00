import pLimit from "p-limit";
import { chunksOf, type FileRange } from "./ranges.js";
import type { Source } from "./source.js";

/** Large enough for a request's latency to be no matter, small enough that several share the line and a broken one costs little. */
const CHUNK_BYTES = 32 * 1024 * 1024;

const READS_AT_ONCE = 4;

interface Chunk extends FileRange {
  readonly step: number;
  /** Present from the moment it is asked for until its step is over. */
  bytes?: Promise<Uint8Array<ArrayBuffer>>;
}

/**
 * A source that is told what will be read: steps (the layers of a model), each with its ranges. What a step needs is read from the source
 * once, in few large reads, and held until the step is over, however often it is asked for; meanwhile the next steps are fetched, as far as
 * memory allows. Reads that no step announced go to the source as they are.
 */
export class ReadAhead implements Source {
  readonly label: string;
  readonly hub: Source["hub"];
  /** In the order in which they are fetched. */
  private readonly chunks: readonly Chunk[];
  /** By file, in order of their bytes. */
  private readonly byFile = new Map<string, Chunk[]>();
  private readonly limit = pLimit(READS_AT_ONCE);
  private step = 0;
  private fetched = 0;
  private released = 0;
  /** Bytes of later steps that are held or under way. */
  private ahead = 0;

  /**
   * @param steps the ranges of each; no byte may lie in two of them
   * @param memory bytes of later steps that may be held beside those of the current one
   */
  constructor(
    private readonly source: Source,
    steps: readonly (readonly FileRange[])[],
    private readonly memory: number,
  ) {
    this.label = source.label;
    this.hub = source.hub;
    this.chunks = steps.flatMap((ranges, step) => chunksOf(ranges, CHUNK_BYTES).map((range) => ({ ...range, step })));
    for (const file of new Set(this.chunks.map((chunk) => chunk.file))) {
      this.byFile.set(file, this.chunks.filter((chunk) => chunk.file === file).sort((a, b) => a.start - b.start));
    }
  }

  /** Begins a step, and fetches it: what is held of those before it is let go. Nothing is fetched before the first call, nor of steps left out. */
  enter(step: number): void {
    this.step = step;
    for (; this.released < this.chunks.length && this.chunks[this.released].step < step; this.released += 1) delete this.chunks[this.released].bytes;
    this.fetched = Math.max(this.fetched, this.released);
    this.ahead = this.chunks.slice(this.released, this.fetched).reduce((sum, chunk) => sum + (chunk.step > step ? chunk.end - chunk.start : 0), 0);
    for (; this.fetched < this.chunks.length; this.fetched += 1) {
      const chunk = this.chunks[this.fetched];
      const size = chunk.step > step ? chunk.end - chunk.start : 0;
      if (size > 0 && this.ahead + size > this.memory) break;
      this.ahead += size;
      void this.fetch(chunk);
    }
  }

  list(): Promise<ReadonlyMap<string, number>> {
    return this.source.list();
  }

  async read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const chunks = this.covering(path, start, end);
    if (chunks === undefined) return this.source.read(path, start, end);
    const bytes = new Uint8Array(end - start);
    for (const chunk of chunks) {
      const from = Math.max(start, chunk.start);
      bytes.set((await this.fetch(chunk)).subarray(from - chunk.start, Math.min(end, chunk.end) - chunk.start), from - start);
    }
    return bytes;
  }

  fingerprint(path: string): Promise<string> {
    return this.source.fingerprint(path);
  }

  /** Lets go of everything, and asks for nothing more. */
  close(): void {
    this.limit.clearQueue();
    this.enter(Infinity);
  }

  private fetch(chunk: Chunk): Promise<Uint8Array<ArrayBuffer>> {
    if (chunk.bytes === undefined) {
      chunk.bytes = this.limit(() => this.source.read(chunk.file, chunk.start, chunk.end));
      // An error is thrown by whoever reads it.
      chunk.bytes.catch(() => undefined);
    }
    return chunk.bytes;
  }

  /** The chunks that a range lies in, if it does so wholly and none of their steps is over. */
  private covering(path: string, start: number, end: number): Chunk[] | undefined {
    const all = this.byFile.get(path) ?? [];
    let low = 0;
    for (let high = all.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (all[middle].end <= start) low = middle + 1;
      else high = middle;
    }
    const found: Chunk[] = [];
    let reached = start;
    for (let i = low; i < all.length && reached < end && all[i].start <= reached && all[i].step >= this.step; i += 1) {
      found.push(all[i]);
      reached = all[i].end;
    }
    return reached >= end && start < end ? found : undefined;
  }
}
