/** A result with the buffers in it that are to be moved, not copied, to whoever asked for it. */
export class Transferring<R> {
  constructor(
    readonly result: R,
    readonly buffers: readonly ArrayBuffer[],
  ) {}
}

/** For functions that `Engine.call` runs: returns `result` to the caller and moves `buffers`, which it refers to, instead of copying them. */
export const transferring = <R>(result: R, buffers: readonly ArrayBuffer[]): Transferring<R> => new Transferring(result, buffers);
