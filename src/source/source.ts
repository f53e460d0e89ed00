/** The one subfolder whose files belong to a checkpoint: that in which the readers of ONNX files look for them. */
export const WEIGHTS_FOLDER = "onnx";

/** The name of a file within the folder that it lies in, for files of a checkpoint; that of any other still has a slash. */
export function nameWithin(path: string): string {
  return path.startsWith(`${WEIGHTS_FOLDER}/`) ? path.slice(WEIGHTS_FOLDER.length + 1) : path;
}

/** Where a checkpoint's files come from: a folder or a Hub repo. Only the bytes that are asked for are read. */
export interface Source {
  /** For messages: the folder's path, or the repo and its commit. */
  readonly label: string;
  /** Absent for a folder. What is read from a Hub takes its time, so that a run reads it ahead. */
  readonly hub?: { /** `org/name` */ readonly repo: string; readonly commit: string; /** Over the network so far, those of failed tries too. */ readonly bytesRead: () => number };
  /** Paths of the regular files at the top level and in `WEIGHTS_FOLDER`, with their sizes in bytes. */
  list(): Promise<ReadonlyMap<string, number>>;
  /** Bytes [start, end) of a file. Throws `InputError` where the file is missing or shorter. */
  read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * What tells this state of a file from another one (a folder: size and modification time; a Hub: its hash). A run compares it
   * before and after: a source that changes under us is an error.
   */
  fingerprint(path: string): Promise<string>;
}
