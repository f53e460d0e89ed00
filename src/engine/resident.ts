import type { LinearAlgebra } from "./engine.js";

/** A matrix [n, n] whose rows are the coefficients of updates. It may be as large as a Hessian: it lies in shared memory, and nothing copies it whole. */
export interface Coefficients {
  readonly n: number;
  readonly matrix: Float32Array;
  /** In place of the diagonal of `matrix`. */
  readonly diagonal?: Float64Array;
  /** By which those are known that are the same, wherever they are used: a device holds them once. */
  readonly key: string;
}

/**
 * Rows r0 … r1 of columns c0 … c1, contiguous.
 * @param room where they may be put, if it is large enough
 */
export function partOf({ n, matrix, diagonal }: Omit<Coefficients, "key">, r0: number, r1: number, c0: number, c1: number, room?: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const width = c1 - c0;
  const size = (r1 - r0) * width;
  const part = room !== undefined && room.length >= size ? room.subarray(0, size) : new Float32Array(size);
  for (let r = r0; r < r1; r++) part.set(matrix.subarray(r * n + c0, r * n + c1), (r - r0) * width);
  if (diagonal) for (let p = Math.max(r0, c0); p < Math.min(r1, c1); p++) part[(p - r0) * width + p - c0] = diagonal[p]!;
  return part;
}

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

function inMemory(la: LinearAlgebra, c: Float32Array, r: Coefficients): Resident {
  const { n } = r;
  const columns = c.length / n;
  // Used again: so much memory is dear to get and to give back.
  let room: Float32Array<ArrayBuffer> | undefined;
  return {
    subtract(first, e, from) {
      const k = e.length / columns;
      room ??= new Float32Array(k * (n - from));
      return la.gemm({ m: n - from, n: columns, k, transA: true, alpha: -1, beta: 1, a: partOf(r, first, first + k, from, n, room), b: e, c: c.subarray(from * columns) });
    },
    fetch: () => Promise.resolve(),
    release: () => Promise.resolve(),
  };
}
