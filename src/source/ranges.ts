/** Bytes [start, end) of a file. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** A range of one of a source's files. */
export interface FileRange extends ByteRange {
  readonly file: string;
}

/** Some ranges that one read from `start` to `end` covers. */
export interface JoinedRange<R extends ByteRange> extends ByteRange {
  readonly parts: readonly R[];
}

/** What lies between two ranges is read along if it is no more: a read of its own costs more than these bytes. */
const MAX_GAP_BYTES = 64 * 1024;

/** Past this, larger reads are not faster, and the buffer that they share costs memory. A single larger range is still one read. */
const MAX_JOINED_BYTES = 64 * 1024 * 1024;

/** Joins ranges of one file that lie close together into few large reads, in order of their bytes. They may overlap. */
export function joinRanges<R extends ByteRange>(ranges: readonly R[]): JoinedRange<R>[] {
  const joined: { start: number; end: number; parts: R[] }[] = [];
  for (const range of [...ranges].sort((a, b) => a.start - b.start || a.end - b.end)) {
    const last = joined.at(-1);
    const end = Math.max(last?.end ?? 0, range.end);
    if (last !== undefined && range.start - last.end <= MAX_GAP_BYTES && end - last.start <= MAX_JOINED_BYTES) {
      last.parts.push(range);
      last.end = end;
    } else {
      joined.push({ start: range.start, end: range.end, parts: [range] });
    }
  }
  return joined;
}

/**
 * Cuts ranges of any files into chunks of at most `maxBytes`, in order of the files' first mention and of their bytes. What adjoins or
 * overlaps is joined, gaps are left out: a byte lies in one chunk if a range has it, and otherwise in none.
 */
export function chunksOf(ranges: readonly FileRange[], maxBytes: number): FileRange[] {
  const chunks: FileRange[] = [];
  for (const file of new Set(ranges.map((range) => range.file))) {
    let done = 0;
    for (const range of ranges.filter((own) => own.file === file).sort((a, b) => a.start - b.start)) {
      for (let at = Math.max(done, range.start); at < range.end; at = done) {
        const last = chunks.at(-1);
        if (last?.file === file && last.end === at && last.end - last.start < maxBytes) {
          done = Math.min(range.end, last.start + maxBytes);
          chunks[chunks.length - 1] = { ...last, end: done };
        } else {
          done = Math.min(range.end, at + maxBytes);
          chunks.push({ file, start: at, end: done });
        }
      }
    }
  }
  return chunks;
}
