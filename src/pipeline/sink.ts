/**
 * Where a run's results go: a folder, later a Hub repo. Shards grow under a temporary name at offsets that are known beforehand, so
 * writing a layer twice is harmless; a name that readers look for appears only with its whole content.
 */
export interface Sink {
  /** For messages. */
  readonly label: string;
  /** The journal's lines so far, oldest first; a last line that was cut by a crash is left out. */
  journal(): Promise<string[]>;
  /** Adds a line and returns when it would survive a power cut. */
  log(line: string): Promise<void>;
  /** Writes part of a shard. */
  writeShard(shard: string, offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Returns when what was written to these shards would survive a power cut. */
  syncShards(shards: Iterable<string>): Promise<void>;
  /** Gives a whole shard its name; returns its SHA-256 in hex. */
  finishShard(shard: string, size: number): Promise<string>;
  /** SHA-256 in hex of a shard that has its name already; undefined if it is not there or not of this size. */
  hashShard(shard: string, size: number): Promise<string | undefined>;
  /** Writes a small file whole: at no moment is half of it there. */
  writeFile(name: string, bytes: Uint8Array): Promise<void>;
  /** A small file's text; undefined if it is not there. */
  readFile(name: string): Promise<string | undefined>;
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
