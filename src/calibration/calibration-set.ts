/** The `origin` of the text that comes with Shardsmith, where it was not chosen among others. */
export const BUILTIN_ORIGIN = "the built-in text";

/** Token sequences with where they came from. */
export interface CalibrationSet {
  /** All but the last are of the same length. */
  readonly sequences: readonly Uint32Array<ArrayBuffer>[];
  /** What `--calibration` would say: a file, a folder, data sets; or the built-in text. */
  readonly origin: string;
  /** How many documents and tokens went into `sequences`. */
  readonly documents: number;
  readonly tokens: number;
  /** What each text gave, in the order in which they were named. */
  readonly parts: readonly CalibrationPart[];
  /** SHA-256 of the tokens, in hex: the identity of the set. */
  readonly sha256: string;
}

export interface CalibrationPart {
  readonly origin: string;
  readonly documents: number;
  readonly tokens: number;
  /** Of a data set on a Hub. */
  readonly dataSet?: { readonly repo: string; readonly commit: string };
  /** Documents among them that are conversations, and how many of these the model's chat template wrote; the turns of others were joined. */
  readonly conversations?: { readonly all: number; readonly templated: number; /** What the template said to the first that it refused. */ readonly refusal?: string };
}
