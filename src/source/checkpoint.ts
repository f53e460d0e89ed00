import pLimit from "p-limit";
import { digestOf } from "../digest.js";
import { InputError } from "../errors.js";
import { byteSize } from "../safetensors/dtypes.js";
import { FLOAT_DTYPES, isFloatDtype, toFloat32 } from "../safetensors/floats.js";
import type { FloatDtype } from "../safetensors/floats.js";
import { headerEnd, parseHeader } from "../safetensors/header.js";
import type { Header, TensorEntry } from "../safetensors/header.js";
import { checkIndex, INDEX_FILE, MAX_INDEX_BYTES, parseIndex } from "../safetensors/index-file.js";
import { parseJsonObject, quote } from "../safetensors/json.js";
import type { JsonObject } from "../safetensors/json.js";
import type { Tensor } from "../safetensors/tensor.js";
import { joinRanges } from "./ranges.js";
import type { FileRange } from "./ranges.js";
import type { Source } from "./source.js";

const SINGLE_FILE = "model.safetensors";
const CONFIG_FILE = "config.json";

/** A config.json holds some kilobytes; one that lists settings for each module, some megabytes. */
const MAX_CONFIG_BYTES = 32 * 1024 * 1024;

/** Real ones nest about five deep. */
const MAX_CONFIG_DEPTH = 64;

/** Most headers fit into this, so that length and header come in one read, which counts when each is a request. */
const FIRST_READ_BYTES = 64 * 1024;

/** Large tensors are read and converted in pieces, so that their bytes and their values need not both be in memory. */
const PIECE_BYTES = 32 * 1024 * 1024;

/** Enough to keep a disk or a connection busy. */
const READS_AT_ONCE = 4;

/** Where a tensor's bytes lie: [start, end) of `file`. */
export interface StoredTensor extends TensorEntry {
  readonly file: string;
  /** From these bytes, all of them, to the tensor's own; absent where they are the same. */
  readonly restore?: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
}

/** A model as the Hub keeps it: config, tokenizer files, and a map of tensor name → where its bytes lie. */
export interface Checkpoint {
  readonly source: Source;
  /** config.json. Nothing in it is checked but that it is an object. */
  readonly config: Readonly<JsonObject>;
  /** All tensors of all shards, as their headers tell. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** The other files at the top level, with their sizes: tokenizer, generation_config.json, chat template, licence. */
  readonly files: ReadonlyMap<string, number>;
  /** One of `files`, whole. It is read once, and kept. */
  readFile(name: string): Promise<Uint8Array<ArrayBuffer>>;
  /** One tensor with its bytes. Here and below, a name that the checkpoint does not have is an `InputError`. */
  read(name: string): Promise<Tensor>;
  /** Several, by name, in the order asked for; neighbours in a file are read together. Each has memory of its own. */
  readMany(names: readonly string[]): Promise<Map<string, Tensor>>;
  /** The values of a tensor of F16, BF16, F32 or F64; `InputError` for any other dtype. */
  readFloat32(name: string): Promise<Float32Array<ArrayBuffer>>;
  /**
   * Some rows of a tensor [rows, width] of floats, in the order asked for and as often: [rows.length, width]. Only their bytes are
   * read. `InputError` for a row that the tensor does not have.
   */
  readRows(name: string, rows: ArrayLike<number>): Promise<Float32Array<ArrayBuffer>>;
  /** What tells this state of the weights from another: for every safetensors file, its source's fingerprint and the SHA-256 of its header. */
  fingerprints(): Promise<Record<string, string>>;
  /** The same checkpoint, read through another source of the same files. */
  through(source: Source): Checkpoint;
}

/**
 * Opens a checkpoint: finds model.safetensors, or else the shards that the index names (in this order, as transformers
 * does), and reads and checks all headers and config.json. No weights are read. Throws `InputError` where anything is
 * missing or wrong.
 */
export async function openCheckpoint(source: Source): Promise<Checkpoint> {
  const files = await source.list();
  const config = await readConfig(source, files);
  const headers = await readHeaders(source, files);
  const tensors = new Map<string, StoredTensor>();
  for (const [file, { header }] of headers) for (const [name, entry] of header.tensors) tensors.set(name, { ...entry, file });
  const own = new Set([...headers.keys(), CONFIG_FILE, INDEX_FILE]);
  return new StoredCheckpoint(source, config, tensors, headers, new Map([...files].filter(([file]) => !own.has(file))));
}

/** Whether openCheckpoint would look for weights there. */
export function hasSafetensors(files: ReadonlyMap<string, number>): boolean {
  return files.has(SINGLE_FILE) || files.has(INDEX_FILE);
}

/** config.json of a source with these files. Throws `InputError`. */
export function readConfig(source: Source, files: ReadonlyMap<string, number>): Promise<JsonObject> {
  return readJson(source, files, CONFIG_FILE, MAX_CONFIG_BYTES, (bytes, where) => parseJsonObject(bytes, where, MAX_CONFIG_DEPTH));
}

/**
 * A checkpoint of tensors that lie in files of another kind. It is only read; what a run would be taken up by, it does not have.
 * @param files all of the source's
 */
export function checkpointOf(source: Source, config: JsonObject, tensors: ReadonlyMap<string, StoredTensor>, files: ReadonlyMap<string, number>): Checkpoint {
  const own = new Set([...[...tensors.values()].map(({ file }) => file), CONFIG_FILE]);
  return new StoredCheckpoint(source, config, tensors, new Map(), new Map([...files].filter(([file]) => !own.has(file))));
}

/** Reads and checks the header of one safetensors file of `size` bytes. Throws `InputError`. */
export async function readHeader(source: Source, file: string, size: number): Promise<Header> {
  return (await readHashedHeader(source, file, size)).header;
}

/** A header, and the SHA-256 of its bytes in hex. */
interface HashedHeader {
  readonly header: Header;
  readonly sha256: string;
}

async function readHashedHeader(source: Source, file: string, size: number): Promise<HashedHeader> {
  const where = `${source.label}/${file}`;
  let bytes = await source.read(file, 0, Math.min(size, FIRST_READ_BYTES));
  const end = headerEnd(bytes, size, where);
  if (end > bytes.length) bytes = await source.read(file, 0, end);
  const header = parseHeader(bytes, size, where);
  return { header, sha256: await digestOf("SHA-256", bytes.subarray(0, header.end)) };
}

async function readHeaders(source: Source, files: ReadonlyMap<string, number>): Promise<Map<string, HashedHeader>> {
  const single = files.get(SINGLE_FILE);
  if (single !== undefined) return new Map([[SINGLE_FILE, await readHashedHeader(source, SINGLE_FILE, single)]]);
  if (!files.has(INDEX_FILE)) throw new InputError(noWeights(source, files));

  const index = await readJson(source, files, INDEX_FILE, MAX_INDEX_BYTES, parseIndex);
  const where = `${source.label}/${INDEX_FILE}`;
  const shards = [...new Set(index.values())].sort();
  const limit = pLimit(READS_AT_ONCE);
  const headers = new Map(
    await limit.map(shards, async (file): Promise<[string, HashedHeader]> => {
      const size = files.get(file);
      if (size === undefined) throw new InputError(`${where}: names ${file}, which is missing`);
      return [file, await readHashedHeader(source, file, size)];
    }),
  );
  checkIndex(index, new Map([...headers].map(([file, { header }]) => [file, header.tensors.keys()])), where);
  return headers;
}

function noWeights({ label }: Source, files: ReadonlyMap<string, number>): string {
  const names = [...files.keys()];
  const pickles = names.find((name) => /^pytorch_model.*\.bin(\.index\.json)?$/.test(name));
  if (pickles !== undefined) return `${label}: has no safetensors weights, only ${pickles}; convert it to safetensors first (transformers' save_pretrained does)`;
  const ggufs = names.find((name) => name.endsWith(".gguf"));
  if (ggufs !== undefined) return `${label}: has no safetensors weights, only ${ggufs}; a GGUF file is quantized already, take the original checkpoint`;
  return `${label}: has no safetensors weights: neither ${SINGLE_FILE} nor ${INDEX_FILE}`;
}

async function readJson<T>(
  source: Source,
  files: ReadonlyMap<string, number>,
  file: string,
  maxBytes: number,
  parse: (bytes: Uint8Array, where: string) => T,
): Promise<T> {
  const where = `${source.label}/${file}`;
  const size = files.get(file);
  if (size === undefined) throw new InputError(`${source.label}: has no ${file}`);
  if (size > maxBytes) throw new InputError(`${where} has ${size} bytes; at most ${maxBytes} are read`);
  return parse(await source.read(file, 0, size), where);
}

class StoredCheckpoint implements Checkpoint {
  constructor(
    readonly source: Source,
    readonly config: Readonly<JsonObject>,
    readonly tensors: ReadonlyMap<string, StoredTensor>,
    private readonly headers: ReadonlyMap<string, HashedHeader>,
    readonly files: ReadonlyMap<string, number>,
    private readonly kept = new Map<string, Promise<Uint8Array<ArrayBuffer>>>(),
  ) {}

  readFile(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const size = this.files.get(name);
    if (size === undefined) throw new InputError(`${this.source.label}: has no ${name}`);
    const bytes = this.kept.get(name) ?? this.source.read(name, 0, size);
    this.kept.set(name, bytes);
    return bytes;
  }

  async read(name: string): Promise<Tensor> {
    return (await this.readMany([name])).get(name)!;
  }

  async readMany(names: readonly string[]): Promise<Map<string, Tensor>> {
    const wanted = new Map(names.map((name) => [name, this.find(name)]));
    const found = new Map<string, Tensor>();
    await this.readRanges([...wanted.values()], ({ name, dtype, shape, restore }, bytes) => found.set(name, { name, dtype, shape, bytes: restore === undefined ? bytes : restore(bytes) }));
    return new Map([...wanted.keys()].map((name) => [name, found.get(name)!]));
  }

  async readFloat32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const { file, start, end, dtype, restore } = this.findFloats(name);
    if (restore !== undefined) return toFloat32(restore(await this.source.read(file, start, end)), dtype);
    if (end - start <= PIECE_BYTES) return toFloat32(await this.source.read(file, start, end), dtype);
    const values = new Float32Array((end - start) / byteSize(dtype, []));
    let done = 0;
    for (let from = start; from < end; from += PIECE_BYTES) {
      const piece = toFloat32(await this.source.read(file, from, Math.min(from + PIECE_BYTES, end)), dtype);
      values.set(piece, done);
      done += piece.length;
    }
    return values;
  }

  async readRows(name: string, rows: ArrayLike<number>): Promise<Float32Array<ArrayBuffer>> {
    const { file, start, dtype, shape, restore } = this.findFloats(name);
    if (restore !== undefined) throw new Error(`${name} is read as a whole only`);
    const [height, width] = shape;
    if (shape.length !== 2) throw new InputError(`${this.source.label}/${file}: tensor ${quote(name)} has the shape ${quote(shape)}, and so no rows`);
    const rowBytes = byteSize(dtype, [width]);
    const places = new Map<number, number[]>();
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i];
      if (!(Number.isInteger(row) && row >= 0 && row < height)) {
        throw new InputError(`${this.source.label}/${file}: tensor ${quote(name)} has ${height} rows, and no row ${row}`);
      }
      const list = places.get(row);
      if (list) list.push(i);
      else places.set(row, [i]);
    }
    const values = new Float32Array(rows.length * width);
    const ranges = [...places].map(([row, to]) => ({ file, start: start + row * rowBytes, end: start + (row + 1) * rowBytes, to }));
    await this.readRanges(ranges, ({ to }, bytes) => {
      const row = toFloat32(bytes, dtype);
      for (const place of to) values.set(row, place * width);
    });
    return values;
  }

  async fingerprints(): Promise<Record<string, string>> {
    const prints: [string, string][] = [];
    for (const [file, { sha256 }] of this.headers) prints.push([file, `${await this.source.fingerprint(file)}, header ${sha256}`]);
    return Object.fromEntries(prints);
  }

  through(source: Source): Checkpoint {
    return new StoredCheckpoint(source, this.config, this.tensors, this.headers, this.files, this.kept);
  }

  private find(name: string): StoredTensor {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new InputError(`${this.source.label}: has no tensor ${quote(name)}`);
    return tensor;
  }

  private findFloats(name: string): StoredTensor & { readonly dtype: FloatDtype } {
    const tensor = this.find(name);
    const { dtype, file } = tensor;
    if (!isFloatDtype(dtype)) {
      throw new InputError(`${this.source.label}/${file}: tensor ${quote(name)} is ${dtype}; floats are read from ${FLOAT_DTYPES.join(", ")}`);
    }
    return { ...tensor, dtype };
  }

  /** Reads ranges of any files, joined where they are close, and hands each its own copy of its bytes. */
  private async readRanges<R extends FileRange>(
    ranges: readonly R[],
    take: (range: R, bytes: Uint8Array<ArrayBuffer>) => void,
  ): Promise<void> {
    const files = new Set(ranges.map(({ file }) => file));
    const reads = [...files].flatMap((file) => joinRanges(ranges.filter((range) => range.file === file)).map((joined) => ({ file, joined })));
    await pLimit(READS_AT_ONCE).map(reads, async ({ file, joined }) => {
      const bytes = await this.source.read(file, joined.start, joined.end);
      const alone = joined.parts.length === 1;
      for (const part of joined.parts) take(part, alone ? bytes : bytes.slice(part.start - joined.start, part.end - joined.start));
    });
  }
}
