import { digestOf } from "../digest.js";
import { InputError } from "../errors.js";
import type { CalibrationPart, CalibrationSet } from "./calibration-set.js";
import type { ChatTemplate } from "./chat-template.js";
import { joinedTurns, type Document } from "./documents.js";
import { mulberry32, shuffled } from "./random.js";
import type { Tokenizer } from "./tokenizer.js";

/** Documents with where they came from: all of them, to be shuffled, or as they are drawn from a data set that is too large to be had whole. */
export interface TextSource {
  readonly origin: string;
  readonly dataSet?: CalibrationPart["dataSet"];
  readonly documents: readonly Document[] | AsyncIterable<Document>;
}

export interface SampleOptions {
  /** How many sequences, of how many tokens each. */
  readonly samples: number;
  readonly sequenceLength: number;
  /** Of the order of documents: an integer from 0 to 2^32 - 1. */
  readonly seed: number;
  /** Rows of the model's embedding. A token beyond them is an error. */
  readonly vocabSize: number;
  /** Asked for once there is a conversation. Without one, the turns are joined. */
  readonly chatTemplate?: () => Promise<ChatTemplate | undefined>;
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
 * in one sequence and end in the next, and is cut nowhere else. Several texts give equal shares, as far as they have so much: the next document is of that
 * which has given the fewest tokens, and only what would be more than its text's share is left out. Conversations go through the model's chat template, which writes special tokens itself. Text is tokenized, and drawn, only as far as it is
 * needed. If it is too short for `samples`, there are fewer sequences, the last of them of what remained (if that is two tokens or more): compare
 * `tokens` with what was asked for.
 * Throws `InputError` for text without tokens, tokens beyond the vocabulary, and options out of range.
 */
export async function buildCalibrationSet(texts: readonly TextSource[], tokenizer: Tokenizer, options: SampleOptions): Promise<CalibrationSet> {
  const { samples, sequenceLength, seed, vocabSize, chatTemplate } = options;
  requireInteger("The number of samples", samples, 1, 2 ** 31 - 1);
  requireInteger("The sequence length", sequenceLength, SHORTEST_SEQUENCE, 2 ** 31 - 1);
  requireInteger("The seed", seed, 0, 2 ** 32 - 1);

  const origin = texts.map((text) => text.origin).join(",");
  const wanted = samples * sequenceLength;
  const all = texts.map((text) => new Drawing(text, seed));
  const encoded: { readonly ids: Uint32Array; readonly from: Drawing }[] = [];
  let total = 0;
  let template: Promise<ChatTemplate | undefined> | undefined;
  try {
    while (total < wanted) {
      const open = all.filter(({ ended }) => !ended);
      if (open.length === 0) break;
      const from = open.reduce((least, other) => (other.drawn < least.drawn ? other : least));
      const share = Math.ceil((wanted - all.reduce((sum, { ended, drawn }) => sum + (ended ? drawn : 0), 0)) / open.length);
      const document = await from.next();
      if (document === undefined) continue;
      const { text, templated } = typeof document === "string" ? { text: document, templated: false } : from.written(document, await (template ??= chatTemplate?.()));
      const before = total;
      for (const [i, part] of partsOf(text).entries()) {
        if (from.drawn >= share) break;
        const ids = tokenizer.encode(part, { addSpecialTokens: i === 0 && !templated }).subarray(0, share - from.drawn);
        requireVocabulary(ids, vocabSize, from.origin);
        encoded.push({ ids, from });
        total += ids.length;
        from.drawn += ids.length;
      }
      if (total > before) from.documents++;
    }
  } finally {
    for (const drawing of all) await drawing.close();
  }

  const sequences = windowsOf(concatenate(encoded.map(({ ids }) => ids), Math.min(total, wanted)), sequenceLength);
  if (sequences.length === 0) throw new InputError(`${origin}: too little text to calibrate on`);
  const tokens = sequences.reduce((sum, sequence) => sum + sequence.length, 0);
  let left = tokens;
  for (const { ids, from } of encoded) {
    const taken = Math.min(ids.length, left);
    from.used += taken;
    left -= taken;
  }
  const parts = all.map((drawing) => drawing.part());
  return { sequences, origin, documents: parts.reduce((sum, { documents }) => sum + documents, 0), tokens, parts, sha256: await digestOf("SHA-256", concatenate(sequences, tokens)) };
}

/** What has been drawn from one text. */
class Drawing {
  readonly origin: string;
  /** No document is left. */
  ended = false;
  documents = 0;
  /** Tokens encoded, and those of them in sequences. */
  drawn = 0;
  used = 0;
  private conversations = 0;
  private templated = 0;
  private refusal: string | undefined;
  private readonly iterator: Iterator<Document> | AsyncIterator<Document>;

  constructor(private readonly text: TextSource, seed: number) {
    const { origin, documents } = text;
    this.origin = origin;
    this.iterator = Symbol.asyncIterator in documents ? documents[Symbol.asyncIterator]() : shuffled(documents, mulberry32(seed))[Symbol.iterator]();
  }

  async next(): Promise<Document | undefined> {
    const next: IteratorResult<Document, unknown> = await this.iterator.next();
    if (next.done !== true) return next.value;
    this.ended = true;
    return undefined;
  }

  /** A conversation as the model reads it. One that the template refuses, as Gemma's does with system prompts, has its turns joined. */
  written(conversation: Document, template: ChatTemplate | undefined): { readonly text: string; readonly templated: boolean } {
    this.conversations++;
    if (template !== undefined && typeof conversation !== "string") {
      try {
        const text = template.render(conversation);
        this.templated++;
        return { text, templated: true };
      } catch (error) {
        this.refusal ??= error instanceof Error ? error.message : String(error);
      }
    }
    return { text: joinedTurns(conversation), templated: false };
  }

  async close(): Promise<void> {
    if (!this.ended) await this.iterator.return?.();
  }

  part(): CalibrationPart {
    const { origin, dataSet } = this.text;
    const { refusal } = this;
    return {
      origin, documents: this.documents, tokens: this.used, ...(dataSet && { dataSet }),
      ...(this.conversations > 0 && { conversations: { all: this.conversations, templated: this.templated, ...(refusal !== undefined && { refusal }) } }),
    };
  }
}

/**
 * A text's token sequences for measuring perplexity, in the usual way (GPTQ's evaluation of WikiText-2, and transformers' guide to the perplexity of
 * fixed-length models without overlap): the whole text is encoded once, with special tokens at its ends only, and cut every `length`
 * tokens from the start. The last, shorter window is kept, if it has two tokens or more.
 * Throws `InputError` for tokens beyond the vocabulary.
 */
export function sequencesOf(
  text: string, tokenizer: Tokenizer, options: { readonly length: number; readonly vocabSize: number; readonly origin: string },
): Uint32Array<ArrayBuffer>[] {
  const { length, vocabSize, origin } = options;
  requireInteger("The sequence length", length, SHORTEST_SEQUENCE, 2 ** 31 - 1);
  const ids = tokenizer.encode(text, { addSpecialTokens: true });
  requireVocabulary(ids, vocabSize, origin);
  return windowsOf(ids, length);
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
