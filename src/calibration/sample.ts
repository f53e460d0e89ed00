import { InputError } from "../errors.js";
import type { CalibrationSet } from "./calibration-set.js";
import type { Tokenizer } from "./tokenizer.js";

export interface SampleOptions {
  /** How many sequences, of how many tokens each. */
  readonly samples: number;
  readonly sequenceLength: number;
  /** Of the order of documents: an integer from 0 to 2^32 - 1. */
  readonly seed: number;
  /** For messages and the report: the file, folder or built-in text. */
  readonly origin: string;
  /** Rows of the model's embedding. A token beyond them is an error. */
  readonly vocabSize: number;
}

/** A sequence of one token predicts nothing and has no context: no use for calibration. */
const SHORTEST_SEQUENCE = 2;

/**
 * Of a longer document, this many characters at a time are encoded, so that a single huge file need not be tokenized whole for
 * its first few thousand tokens. Shorter documents, which is nearly all, are encoded as one.
 */
const PART_CHARACTERS = 2 ** 20;

/**
 * Documents to token sequences: shuffled by seed, encoded each with the special tokens that the model expects, laid end to end, and
 * cut every `sequenceLength` tokens. Nothing is repeated or left out between the first and the last token used; a document may begin
 * in one sequence and end in the next. Text is tokenized only as far as it is needed. If it is too short for `samples`, there are fewer
 * sequences, the last of them of what remained (if that is two tokens or more): compare `tokens` with what was asked for.
 * Throws `InputError` for text without tokens, tokens beyond the vocabulary, and options out of range.
 */
export async function buildCalibrationSet(documents: readonly string[], tokenizer: Tokenizer, options: SampleOptions): Promise<CalibrationSet> {
  const { samples, sequenceLength, seed, origin, vocabSize } = options;
  requireInteger("The number of samples", samples, 1, 2 ** 31 - 1);
  requireInteger("The sequence length", sequenceLength, SHORTEST_SEQUENCE, 2 ** 31 - 1);
  requireInteger("The seed", seed, 0, 2 ** 32 - 1);

  const wanted = samples * sequenceLength;
  const encoded: Uint32Array[] = [];
  let total = 0;
  let used = 0;
  for (const document of shuffled(documents, seed)) {
    if (total >= wanted) break;
    const before = total;
    for (const [i, part] of partsOf(document).entries()) {
      if (total >= wanted) break;
      const ids = tokenizer.encode(part, { addSpecialTokens: i === 0 });
      requireVocabulary(ids, vocabSize, origin);
      encoded.push(ids);
      total += ids.length;
    }
    if (total > before) used++;
  }

  const sequences = windowsOf(concatenate(encoded, Math.min(total, wanted)), sequenceLength);
  if (sequences.length === 0) throw new InputError(`${origin}: too little text to calibrate on`);
  const tokens = sequences.reduce((sum, sequence) => sum + sequence.length, 0);
  return { sequences, origin, documents: used, tokens, sha256: await sha256Of(sequences, tokens) };
}

/**
 * A text's token sequences for measuring perplexity, in the usual way (GPTQ's evaluation of WikiText-2, and transformers' guide to the perplexity of
 * fixed-length models without overlap): the whole text is encoded once, with special tokens at its ends only, and cut every `length`
 * tokens from the start. The last, shorter window is kept, if it has two tokens or more.
 * Throws `InputError` for tokens beyond the vocabulary and for text without tokens.
 */
export function sequencesOf(
  text: string, tokenizer: Tokenizer, options: { readonly length: number; readonly vocabSize: number; readonly origin: string },
): Uint32Array<ArrayBuffer>[] {
  const { length, vocabSize, origin } = options;
  requireInteger("The sequence length", length, SHORTEST_SEQUENCE, 2 ** 31 - 1);
  const ids = tokenizer.encode(text, { addSpecialTokens: true });
  requireVocabulary(ids, vocabSize, origin);
  const windows = windowsOf(ids, length);
  if (windows.length === 0) throw new InputError(`${origin}: too little text to measure on`);
  return windows;
}

/** Copies of `length` ids each from the start, and of the rest, if it is long enough to be of use. */
function windowsOf(ids: Uint32Array<ArrayBuffer>, length: number): Uint32Array<ArrayBuffer>[] {
  const windows: Uint32Array<ArrayBuffer>[] = [];
  for (let start = 0; ids.length - start >= SHORTEST_SEQUENCE; start += length) windows.push(ids.slice(start, start + length));
  return windows;
}

/** A long document in parts that end with a line, or where there is none to end with, with a space or a character. */
function partsOf(document: string): string[] {
  const parts: string[] = [];
  let start = 0;
  while (document.length - start > PART_CHARACTERS) {
    const limit = start + PART_CHARACTERS;
    const end = [document.lastIndexOf("\n", limit - 1) + 1, document.lastIndexOf(" ", limit - 1), limit].find((at) => at > start)!;
    // Between the two halves of a surrogate pair there is no place to cut.
    const cut = /^[\uDC00-\uDFFF]/.test(document.charAt(end)) ? end - 1 : end;
    parts.push(document.slice(start, cut));
    start = cut;
  }
  parts.push(document.slice(start));
  return parts;
}

/** Fisher and Yates's shuffle; the same order for the same seed everywhere. */
function shuffled(documents: readonly string[], seed: number): string[] {
  const order = [...documents];
  const random = mulberry32(seed);
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** Tommy Ettinger's Mulberry32: a counter of 32 bits, hashed. Numbers in [0, 1). */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The first `length` ids of all parts, end to end. */
function concatenate(parts: readonly Uint32Array[], length: number): Uint32Array<ArrayBuffer> {
  const all = new Uint32Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part.subarray(0, length - at), at);
    at += Math.min(part.length, length - at);
  }
  return all;
}

async function sha256Of(sequences: readonly Uint32Array[], tokens: number): Promise<string> {
  const digest = await globalThis.crypto.subtle.digest("SHA-256", concatenate(sequences, tokens));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function requireVocabulary(ids: Uint32Array, vocabSize: number, origin: string): void {
  const beyond = ids.find((id) => id >= vocabSize);
  if (beyond === undefined) return;
  throw new InputError(
    `tokenizer.json gives token ${beyond} on ${origin}, but the model's vocabulary ends at ${vocabSize - 1}: the tokenizer belongs to another model`,
  );
}

function requireInteger(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new InputError(`${what} must be an integer from ${least} to ${most}, not ${value}`);
}
