/** The files of a checkpoint that are whole. */
export interface FinishedFiles {
  /** For messages. */
  readonly label: string;
  /** Their names and sizes in bytes. */
  list(): Promise<ReadonlyMap<string, number>>;
  /** What one holds, read only when it is sent; undefined if it is not there. */
  content(name: string): Promise<Blob | undefined>;
  /** SHA-256 in hex; undefined if it is not there or not of this size. */
  hash(name: string, size: number): Promise<string | undefined>;
  /** A small file's text; undefined if it is not there. */
  readFile(name: string): Promise<string | undefined>;
}

/**
 * Where a run's results go: a folder, later a Hub repo. Shards grow under a temporary name at offsets that are known beforehand, so
 * writing a layer twice is harmless; a name that readers look for appears only with its whole content.
 */
export interface Sink extends FinishedFiles {
  /** The journal's lines so far, oldest first; a last line that was cut by a crash is left out. */
  journal(): Promise<string[]>;
  /** Adds a line and returns when it would survive a power cut. Lines that are logged at once come one after the other. */
  log(line: string): Promise<void>;
  /** Writes part of a shard. */
  writeShard(shard: string, offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Returns when what was written to these shards would survive a power cut. */
  syncShards(shards: Iterable<string>): Promise<void>;
  /** Gives a whole shard its name; returns its SHA-256 in hex. */
  finishShard(shard: string, size: number): Promise<string>;
  /** Deletes a shard that has its name already. */
  deleteShard(shard: string): Promise<void>;
  /** Writes a small file whole: at no moment is half of it there. */
  writeFile(name: string, bytes: Uint8Array): Promise<void>;
  /** A file for hidden states, kept beside the journal; what it held before is still there. */
  scratch(name: string): Promise<ScratchFile>;
  /** True if a file of this name is there. */
  has(name: string): Promise<boolean>;
  /** Throws away the journal, the scratch files and any checkpoint: a run begins anew. */
  reset(): Promise<void>;
  /** The run is complete: deletes journal and scratch. */
  complete(): Promise<void>;
  /** Closes files and lets the next run in. */
  close(): Promise<void>;
}

/** A file that is written and read at will. */
export interface ScratchFile {
  write(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Fills `into` from `offset`; throws if the file is shorter. */
  read(offset: number, into: Uint8Array<ArrayBuffer>): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
  /** SHA-256 in hex of its first `size` bytes; undefined if it is shorter. */
  hash(size: number): Promise<string | undefined>;
}
