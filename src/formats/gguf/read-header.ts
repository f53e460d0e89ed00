import { InputError } from "../../errors.js";
import { quote } from "../../safetensors/json.js";
import { ggmlTypeOf, type GgmlType } from "./ggml-types.js";
import { ARRAY_ID, CODECS, STRING_ID, type Codec, type FixedType, type GgufScalar, type GgufValue } from "./values.js";
import { aligned, ALIGNMENT, MAGIC, VERSION } from "./write-header.js";

/** A tensor of a GGUF file: its bytes are [start, end) of the file. */
export interface GgufEntry {
  readonly name: string;
  readonly type: GgmlType;
  /** Outermost first. */
  readonly shape: readonly number[];
  readonly start: number;
  readonly end: number;
}

export interface GgufFile {
  readonly keys: ReadonlyMap<string, GgufValue>;
  /** By name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, GgufEntry>;
  /** The bytes before the data. */
  readonly header: Uint8Array<ArrayBuffer>;
}

/** Most headers fit into this: a vocabulary of 150,000 tokens with its merges takes 6 MB. */
const FIRST_READ_BYTES = 1 << 20;

/** The largest vocabularies of today, of 262,144 tokens, take some 12 MB. */
const MAX_HEADER_BYTES = 256 << 20;

/** ggml's own limits: GGML_MAX_DIMS, and GGML_MAX_NAME less its end. */
const MAX_DIMS = 4;
const MAX_NAME_BYTES = 63;

/** Strings: a length of 64 bits. */
const LENGTH_BYTES = 8;

/**
 * Reads and checks the header of a GGUF file of version 3, little-endian (ggml/docs/gguf.md). `where` names the file in messages. What comes back is consistent:
 * every tensor is of a type that ggml has, lies in the file in the order of the header, aligned and without overlaps. Anything else is an `InputError` that names
 * the file, the key or tensor and what is wrong.
 * @param read bytes [start, end) of the file
 */
export async function readGguf(read: (start: number, end: number) => Promise<Uint8Array<ArrayBuffer>>, fileSize: number, where: string): Promise<GgufFile> {
  for (let length = Math.min(FIRST_READ_BYTES, fileSize); ; length = Math.min(4 * length, fileSize)) {
    const header = new Reader(await read(0, length), fileSize, where);
    try {
      return header.file();
    } catch (error) {
      if (!(error instanceof More)) throw error;
      if (length === fileSize) throw new InputError(`${where}: the file ends within its header, in ${error.message}`);
      if (length >= MAX_HEADER_BYTES) throw new InputError(`${where}: the header goes on past ${String(MAX_HEADER_BYTES)} bytes`);
    }
  }
}

/** The header goes on past the bytes that were read. */
class More extends Error {}

class Reader {
  private readonly view: DataView;
  private at = 0;
  /** What is being read, for messages. */
  private what = "its first bytes";

  constructor(private readonly bytes: Uint8Array<ArrayBuffer>, private readonly fileSize: number, private readonly where: string) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  file(): GgufFile {
    if (this.fixed(CODECS.u32) !== MAGIC) this.fail("does not begin with GGUF");
    const version = this.fixed(CODECS.u32);
    if (version !== VERSION) this.fail(`is GGUF of version ${String(version)}; version ${String(VERSION)}, little-endian, can be read`);
    // A tensor has a name, dimensions, type and offset; a key a name, a type and a value.
    const tensors = this.count("tensors", LENGTH_BYTES + 4 + 4 + 8);
    const keys = this.count("keys", LENGTH_BYTES + 4 + 1);
    const values = new Map<string, GgufValue>();
    for (let i = 0; i < keys; i++) {
      this.what = `key ${String(i + 1)} of ${String(keys)}`;
      const name = this.name();
      this.what = `key ${quote(name)}`;
      if (values.has(name)) this.fail(`has two keys ${quote(name)}`);
      values.set(name, this.value());
    }
    const infos = [];
    for (let i = 0; i < tensors; i++) {
      this.what = `tensor ${String(i + 1)} of ${String(tensors)}`;
      infos.push(this.tensor());
    }
    const alignment = this.alignment(values.get("general.alignment"));
    const dataStart = aligned(this.at, alignment);
    return { keys: values, tensors: this.laidOut(infos, dataStart, alignment), header: this.bytes.subarray(0, Math.min(dataStart, this.bytes.length)) };
  }

  /** Where each lies, once they lie as ggml's own reader demands: one after the other, each at the next multiple of the alignment. */
  private laidOut(infos: readonly TensorInfo[], dataStart: number, alignment: number): Map<string, GgufEntry> {
    const tensors = new Map<string, GgufEntry>();
    let offset = 0;
    for (const { name, type, shape, offset: own } of infos) {
      const described = `tensor ${quote(name)}`;
      if (tensors.has(name)) this.fail(`has two tensors named ${quote(name)}`);
      if (own !== BigInt(offset)) this.fail(`${described} begins at byte ${String(own)} of the data, not where the one before it ends, at ${String(offset)}`);
      const bytes = sizeOf(type, shape);
      if (!Number.isSafeInteger(dataStart + offset + bytes)) this.fail(`${described} has the shape ${quote(shape)}: more than can be counted`);
      const start = dataStart + offset;
      const end = start + bytes;
      if (end > this.fileSize) this.fail(`${described} ends at byte ${String(end)}, but the file has only ${String(this.fileSize)}`);
      tensors.set(name, { name, type, shape, start, end });
      offset = aligned(offset + bytes, alignment);
    }
    return tensors;
  }

  private tensor(): TensorInfo {
    const name = this.name(MAX_NAME_BYTES);
    this.what = `tensor ${quote(name)}`;
    const dims = this.fixed(CODECS.u32);
    if (dims < 1 || dims > MAX_DIMS) this.fail(`${this.what} has ${String(dims)} dimensions; 1 to ${String(MAX_DIMS)} can be read`);
    const shape = Array.from({ length: dims }, () => this.fixed(CODECS.u64)).reverse();
    if (shape.some((size) => size < 1n || size > BigInt(Number.MAX_SAFE_INTEGER))) this.fail(`${this.what} has the shape [${shape.join(", ")}]`);
    const id = this.fixed(CODECS.u32);
    const type = ggmlTypeOf(id);
    if (type === undefined) return this.fail(`${this.what} is of type ${String(id)}, which is not known`);
    const width = Number(shape.at(-1));
    if (width % type.weights !== 0) this.fail(`${this.what} is ${type.name} with rows of ${String(width)}, which are no whole blocks of ${String(type.weights)}`);
    return { name, type, shape: shape.map(Number), offset: this.fixed(CODECS.u64) };
  }

  private alignment(value: GgufValue | undefined): number {
    if (value === undefined) return ALIGNMENT;
    if (value.type !== "u32" || !Number.isInteger(Math.log2(value.value))) return this.fail(`general.alignment is ${quote("value" in value ? String(value.value) : "an array")}; expected a power of two`);
    return value.value;
  }

  private value(): GgufValue {
    const id = this.fixed(CODECS.u32);
    if (id !== ARRAY_ID) {
      const type = this.type(id);
      return { type, value: this.scalar(type) } as GgufScalar;
    }
    const of = this.type(this.fixed(CODECS.u32));
    const length = this.count(`elements of ${this.what}`, of === "string" ? LENGTH_BYTES : CODECS[of].bytes);
    const values = [];
    for (let i = 0; i < length; i++) values.push(this.scalar(of));
    return { type: "array", of, values } as GgufValue;
  }

  private type(id: number): GgufScalar["type"] {
    const fixed = (Object.keys(CODECS) as FixedType[]).find((type) => CODECS[type].id === id);
    return fixed ?? (id === STRING_ID ? "string" : this.fail(`${this.what} has a value of type ${String(id)}, which cannot be read`));
  }

  private scalar(type: GgufScalar["type"]): GgufScalar["value"] {
    return type === "string" ? this.text() : this.fixed<GgufScalar["value"]>(CODECS[type]);
  }

  private fixed<T>(codec: Codec<T>): T {
    return codec.get(this.view, this.need(codec.bytes));
  }

  /** How many there are of something that takes `least` bytes at least: no more than the file could hold. */
  private count(of: string, least: number): number {
    const count = this.fixed(CODECS.u64);
    if (count * BigInt(least) > BigInt(this.fileSize - this.at)) this.fail(`claims ${String(count)} ${of}, more than fit into its ${String(this.fileSize)} bytes`);
    return Number(count);
  }

  private raw(most: number): Uint8Array<ArrayBuffer> {
    const length = this.count(`bytes for a string of ${this.what}`, 1);
    if (length > most) this.fail(`${this.what} has a name of ${String(length)} bytes; at most ${String(most)} can be read`);
    const at = this.need(length);
    return this.bytes.subarray(at, at + length);
  }

  /** Text of the model's, which is only shown or carried: what is not UTF-8 in it is no error. */
  private text(): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.raw(Infinity));
  }

  private name(most = 65_535): string {
    try {
      return new TextDecoder("utf-8", { ignoreBOM: true, fatal: true }).decode(this.raw(most));
    } catch (error) {
      if (error instanceof TypeError) return this.fail(`${this.what} has a name that is not valid UTF-8`);
      throw error;
    }
  }

  /** Where the next `bytes` lie. */
  private need(bytes: number): number {
    const at = this.at;
    if (at + bytes > this.bytes.length) throw new More(this.what);
    this.at += bytes;
    return at;
  }

  private fail(what: string): never {
    throw new InputError(`${this.where}: ${what}`);
  }
}

interface TensorInfo {
  readonly name: string;
  readonly type: GgmlType;
  readonly shape: readonly number[];
  readonly offset: bigint;
}

function sizeOf({ weights, bytes }: GgmlType, shape: readonly number[]): number {
  return (shape.reduce((product, size) => product * size, 1) / weights) * bytes;
}
