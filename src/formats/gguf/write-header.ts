import { ggmlType } from "./ggml-types.js";
import { ARRAY_ID, CODECS, STRING_ID, type Codec, type GgufKey, type GgufScalar, type GgufValue } from "./values.js";

/** "GGUF", as a number in the file's byte order. */
export const MAGIC = 0x46554747;
export const VERSION = 3;

/** Where data and each tensor begin: multiples of this, unless general.alignment says else. */
export const ALIGNMENT = 32;

/** A tensor to be written. */
export interface GgufTensor {
  readonly name: string;
  /** ggml's name of its type. */
  readonly type: string;
  /** Outermost first, as in safetensors: GGUF itself has them the other way round. */
  readonly shape: readonly number[];
  readonly bytes: number;
}

/**
 * The header of a GGUF file (ggml/docs/gguf.md, version 3), padded to where the data begin, and where each tensor begins, counted from the
 * start of the file.
 */
export function ggufHeader(keys: readonly GgufKey[], tensors: readonly GgufTensor[]): { readonly header: Uint8Array<ArrayBuffer>; readonly starts: readonly number[] } {
  const out = new Writer();
  out.fixed(CODECS.u32, MAGIC);
  out.fixed(CODECS.u32, VERSION);
  out.fixed(CODECS.u64, BigInt(tensors.length));
  out.fixed(CODECS.u64, BigInt(keys.length));
  for (const [name, value] of keys) {
    out.string(name);
    out.value(value);
  }
  let offset = 0;
  const offsets = tensors.map(({ name, type, shape, bytes }) => {
    const own = offset;
    out.string(name);
    out.fixed(CODECS.u32, shape.length);
    for (const size of shape.toReversed()) out.fixed(CODECS.u64, BigInt(size));
    out.fixed(CODECS.u32, ggmlType(type).id);
    out.fixed(CODECS.u64, BigInt(own));
    offset = aligned(own + bytes);
    return own;
  });
  const header = out.padded();
  return { header, starts: offsets.map((start) => header.length + start) };
}

/** The next multiple of the alignment. */
export function aligned(at: number, alignment = ALIGNMENT): number {
  return Math.ceil(at / alignment) * alignment;
}

class Writer {
  private bytes = new Uint8Array(1 << 16);
  private view = new DataView(this.bytes.buffer);
  private end = 0;

  fixed<T>(codec: Codec<T>, value: T): void {
    this.room(codec.bytes);
    codec.set(this.view, this.end, value);
    this.end += codec.bytes;
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.fixed(CODECS.u64, BigInt(bytes.length));
    this.room(bytes.length);
    this.bytes.set(bytes, this.end);
    this.end += bytes.length;
  }

  value(value: GgufValue): void {
    if (value.type !== "array") {
      this.fixed(CODECS.u32, idOf(value.type));
      this.scalar(value.type, value.value);
      return;
    }
    this.fixed(CODECS.u32, ARRAY_ID);
    this.fixed(CODECS.u32, idOf(value.of));
    this.fixed(CODECS.u64, BigInt(value.values.length));
    for (let i = 0; i < value.values.length; i++) this.scalar(value.of, value.values[i]);
  }

  padded(): Uint8Array<ArrayBuffer> {
    this.room(ALIGNMENT);
    return this.bytes.slice(0, aligned(this.end));
  }

  private scalar(type: GgufScalar["type"], value: GgufScalar["value"]): void {
    if (type === "string") this.string(value as string);
    else this.fixed<GgufScalar["value"]>(CODECS[type], value);
  }

  private room(bytes: number): void {
    if (this.end + bytes <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.bytes.length, this.end + bytes));
    grown.set(this.bytes);
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }
}

function idOf(type: GgufScalar["type"]): number {
  return type === "string" ? STRING_ID : CODECS[type].id;
}
