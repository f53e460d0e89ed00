/** A file as the Hub keeps large ones: by its SHA-256. */
export interface LargeFile {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** In hex. */
  readonly sha256: string;
}

/**
 * Where a checkpoint is published. Shards are sent as they are made and are seen by nobody; one commit at the end makes them and all other
 * files appear at once, so that no half of a checkpoint can be loaded.
 */
export interface Publisher {
  /** `org/name` */
  readonly repo: string;
  /** The model card that stands there now. */
  card(): Promise<string | undefined>;
  /**
   * Sends a shard, unless it is there, and returns when the Hub has confirmed its SHA-256. Without content it must be there already: throws
   * `InputError` if the Hub has lost it.
   */
  shard(file: LargeFile, content: Blob | undefined): Promise<void>;
  /**
   * Makes all shards sent so far, and these files, the checkpoint that the repo holds; weights of another that stood there go. `url` is the
   * page to open; `changed` is false where all of it was there.
   */
  commit(files: ReadonlyMap<string, Uint8Array>): Promise<Published>;
  /** Ends what is being sent; what was confirmed stays. */
  close(): void;
}

export interface Published {
  readonly url: string;
  readonly changed: boolean;
}
