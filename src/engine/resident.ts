import type { LinearAlgebra } from "./engine.js";

/** A matrix [n, n] whose rows are the coefficients of updates. It may be as large as a Hessian: it lies in shared memory, and nothing copies it whole. */
export interface Coefficients {
  readonly n: number;
  readonly matrix: Float32Array;
  /** Whether `matrix` is the same as its transpose. */
  readonly symmetric?: boolean;
  /** In place of the diagonal of `matrix`. */
  readonly diagonal?: Float64Array;
  /** By which those are known that are the same, wherever they are used: a device holds them once. */
  readonly key: string;
}

/**
 * Rows r0 … r1 of columns c0 … c1, contiguous, and to be read only: where whole rows lie in memory of the thread's own, they are not copied.
 * @param room where they may be put, if it is large enough
 */
export function partOf({ n, matrix, diagonal }: Omit<Coefficients, "key">, r0: number, r1: number, c0: number, c1: number, room?: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  if (c1 - c0 === n && diagonal === undefined && isOwn(matrix)) return matrix.subarray(r0 * n, r1 * n);
  const width = c1 - c0;
  const size = (r1 - r0) * width;
  const part = room !== undefined && room.length >= size ? room.subarray(0, size) : new Float32Array(size);
  for (let r = r0; r < r1; r++) part.set(matrix.subarray(r * n + c0, r * n + c1), (r - r0) * width);
  if (diagonal) for (let p = Math.max(r0, c0); p < Math.min(r1, c1); p++) part[(p - r0) * width + p - c0] = diagonal[p]!;
  return part;
}

const isOwn = (matrix: Float32Array): matrix is Float32Array<ArrayBuffer> => matrix.buffer instanceof ArrayBuffer;

/**
 * A matrix C [n, columns] from which products are taken again and again, and of which a few rows at a time are looked at: in GPTQ's sweep the columns of the
 * weight that are still to come, in a descent the gradient. It may lie on a device, where it stays, as the coefficients do: only a block of errors and the
 * next rows cross over, a byte for n / 8 multiply-adds (n / 16 in GPTQ's sweep, of which half is done already on an average).
 */
export interface Resident {
  /**
   * C[from …] −= R[first … first + k, from …]ᵀ · e, for rows R of the coefficients. Rows of C before `from` are done with, and not kept.
   * @param e [k, columns]; it may be changed once this returns
   */
  subtract(first: number, e: Float32Array, from: number): Promise<void>;
  /** Brings rows from … to up to date in the memory that was given. What was written there since C was made does not count. */
  fetch(from: number, to: number): Promise<void>;
  /** Frees what it takes beside that memory. */
  release(): Promise<void>;
}

/** C = c [r.n, columns], on the device where `la` has one; otherwise where it is. */
export function residentOf(la: LinearAlgebra, c: Float32Array, r: Coefficients): Resident {
  return la.resident?.(c, r) ?? inMemory(la, c, r);
}

/** Rows of C that are brought up to date at a time, so that no more of the coefficients is copied. */
const MOST_ROWS = 128;

/** A block of errors, rows `first` … `end`, that rows of C from `from` on are to have. */
interface Update {
  readonly first: number;
  readonly end: number;
  readonly from: number;
}

/**
 * In memory updates wait until rows are looked at: then one product brings these up to date by all errors since, which goes through as many values of C
 * as are needed, not through all of them for every block.
 */
function inMemory(la: LinearAlgebra, c: Float32Array, r: Coefficients): Resident {
  const { n } = r;
  const columns = c.length / n;
  const updates: Update[] = [];
  /** How many of them each row has had. */
  const had = new Int32Array(n);
  /** The last errors of each row of the coefficients [n, columns]. */
  let errors: Float32Array<ArrayBuffer> | undefined;
  // Used again: so much memory is dear to get and to give back.
  const room = new Float32Array(Math.min(n, MOST_ROWS) * n);

  function waits({ from }: Update, index: number): boolean {
    for (let row = from; row < n; row++) if (had[row] <= index) return true;
    return false;
  }

  async function fetch(from: number, to: number): Promise<void> {
    for (let start = from, end = from; start < to; start = end) {
      const limit = Math.min(start + MOST_ROWS, to);
      const missing = updates.slice(had[start]);
      for (end = start + 1; end < limit && had[end] === had[start] && missing.every((update) => update.from !== end); end++);
      for (const { first, end: last } of joined(missing.filter((update) => update.from <= start))) {
        const k = last - first;
        await la.gemm({
          m: end - start, n: columns, k, alpha: -1, beta: 1, transA: !r.symmetric,
          a: r.symmetric ? partOf(r, start, end, first, last, room) : partOf(r, first, last, start, end, room),
          b: errors!.subarray(first * columns, last * columns), c: c.subarray(start * columns, end * columns),
        });
      }
      had.fill(updates.length, start, end);
    }
  }

  return {
    async subtract(first, e, from) {
      const end = first + e.length / columns;
      if (updates.some((update, i) => update.first < end && first < update.end && waits(update, i))) await fetch(0, n);
      errors ??= new Float32Array(n * columns);
      errors.set(e, first * columns);
      updates.push({ first, end, from });
    },
    fetch,
    release: () => Promise.resolve(),
  };
}

/** Ranges of errors, those that follow on one another as one. */
function joined(updates: readonly Update[]): { first: number; end: number }[] {
  const ranges: { first: number; end: number }[] = [];
  for (const { first, end } of updates.toSorted((a, b) => a.first - b.first)) {
    const last = ranges.at(-1);
    if (last?.end === first) last.end = end;
    else ranges.push({ first, end });
  }
  return ranges;
}
