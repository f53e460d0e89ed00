/** Token sequences with where they came from. */
export interface CalibrationSet {
  /** All but the last are of the same length. */
  readonly sequences: readonly Uint32Array<ArrayBuffer>[];
  /** For the report: the file, folder or built-in text. */
  readonly origin: string;
  /** How many documents, characters and tokens went into `sequences`. */
  readonly documents: number;
  readonly tokens: number;
  /** SHA-256 of the tokens, in hex: the identity of the set. */
  readonly sha256: string;
}
