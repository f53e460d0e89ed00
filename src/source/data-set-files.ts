/** The files of a data set at one commit, read as far as they are needed. */
export interface DataSetFiles {
  /** For messages: the repo and its commit. */
  readonly label: string;
  readonly repo: string;
  readonly commit: string;
  /** Their paths and sizes in bytes. */
  readonly files: ReadonlyMap<string, number>;
  /** Bytes [start, end) of a file. Throws `InputError` where they cannot be had. */
  read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
}
