import { InputError } from "../errors.js";
import { byteSize, DTYPE_BITS, isDtype } from "./dtypes.js";
import { isJsonObject, parseJsonObject, quote } from "./json.js";
import type { JsonObject } from "./json.js";
import type { TensorSpec } from "./tensor.js";

/** The header's length comes first, as an unsigned 64-bit little-endian integer. */
export const LENGTH_BYTES = 8;

/** The format's own limit (`MAX_HEADER_SIZE` in the Rust crate): without one, eight bytes could make a reader ask for any amount of memory. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Header, tensor, shape: the format needs three levels. One more, so that a nested shape is called a wrong shape. */
const MAX_HEADER_DEPTH = 4;

/** A tensor in a file: its bytes are [start, end), counted from the start of the file. */
export interface TensorEntry extends TensorSpec {
  readonly start: number;
  readonly end: number;
}

export interface Header {
  /** By name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** `__metadata__`: free text for people and frameworks. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Where the header ends and the tensors begin. */
  readonly end: number;
}

/**
 * Where the header of a safetensors file ends, from the file's first eight bytes (more may follow) and its size. Throws `InputError`
 * where the length is more than the format allows or the file holds.
 */
export function headerEnd(bytes: Uint8Array, fileSize: number, file: string): number {
  if (bytes.length < LENGTH_BYTES || fileSize < LENGTH_BYTES) {
    throw new InputError(`${file}: ${Math.min(bytes.length, fileSize)} bytes are too few for a safetensors file`);
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    throw new InputError(`${file}: the header claims ${length.toString()} bytes; safetensors allows ${MAX_HEADER_BYTES}`);
  }
  const end = LENGTH_BYTES + Number(length);
  if (end > fileSize) throw new InputError(`${file}: the header claims ${length.toString()} bytes, but the file has only ${fileSize}`);
  return end;
}

/**
 * Reads and checks the header of a safetensors file (https://github.com/huggingface/safetensors, "Format").
 *
 * `bytes` are the start of the file, the whole header at least; `fileSize` is the size of the whole file; `file` names it in
 * messages. What comes back is consistent: every tensor's bytes lie in the file and are as many as its dtype and shape need, and the tensors
 * fill the file without overlaps or holes. Anything else is an `InputError` that names the file, the tensor and what is wrong.
 */
export function parseHeader(bytes: Uint8Array, fileSize: number, file: string): Header {
  const end = headerEnd(bytes, fileSize, file);
  if (bytes.length < end) throw new RangeError(`parseHeader needs ${end} bytes and got ${bytes.length}`);
  if (bytes[LENGTH_BYTES] !== 0x7b) throw new InputError(`${file}: the header does not begin with "{"`);
  const json = parseJsonObject(bytes.subarray(LENGTH_BYTES, end), `${file}: the header`, MAX_HEADER_DEPTH);

  let metadata: ReadonlyMap<string, string> = new Map();
  const tensors: TensorEntry[] = [];
  for (const [name, value] of Object.entries(json)) {
    if (name === "__metadata__") metadata = parseMetadata(value, file);
    else tensors.push(parseTensor(name, value, end, fileSize, file));
  }
  // Zero-size tensors go before the one that begins where they lie.
  tensors.sort((a, b) => a.start - b.start || a.end - b.end);
  checkCover(tensors, end, fileSize, file);
  return { tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), metadata, end };
}

function parseMetadata(value: unknown, file: string): Map<string, string> {
  if (!isJsonObject(value)) throw new InputError(`${file}: __metadata__ is not an object`);
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw new InputError(`${file}: __metadata__ has a value that is not a string, at ${quote(key)}`);
    metadata.set(key, text);
  }
  return metadata;
}

const KEYS = ["dtype", "shape", "data_offsets"];

function parseTensor(name: string, value: unknown, dataStart: number, fileSize: number, file: string): TensorEntry {
  const fail = (what: string): never => {
    throw new InputError(`${file}: tensor ${quote(name)}${what}`);
  };
  // A lone surrogate cannot be written as UTF-8: no other program could ask for this tensor.
  if (/\p{Surrogate}/u.test(name)) fail(" has a name that is not valid Unicode");
  if (!isJsonObject(value)) return fail(" is not described by an object");
  checkKeys(value, fail);

  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) return fail(` has the unknown dtype ${quote(dtype)}`);
  if (!isSizes(shape)) return fail(` has the shape ${quote(shape)}; every size must be a whole number of at least 0`);
  if (!isSizes(offsets) || offsets.length !== 2) {
    return fail(` has the data_offsets ${quote(offsets)}; they must be two whole numbers of at least 0`);
  }
  const [from, to] = offsets as [number, number];
  if (from > to) fail(` begins at byte ${from} and ends before it, at ${to}`);
  if (to > fileSize - dataStart) fail(` ends at byte ${to}, but the file has only ${fileSize - dataStart} bytes of data`);

  const size = byteSize(dtype, shape);
  if (size !== to - from) {
    const described = ` is ${dtype} of shape ${quote(shape)}`;
    if (size === Infinity) fail(`${described}: more than can be counted`);
    if (!Number.isInteger(size)) fail(`${described}: elements of ${DTYPE_BITS[dtype]} bits that do not fill whole bytes`);
    fail(`${described}, which takes ${size} bytes, but its data_offsets span ${to - from}`);
  }
  return { name, dtype, shape, start: dataStart + from, end: dataStart + to };
}

function checkKeys(value: JsonObject, fail: (what: string) => never): void {
  for (const key of KEYS) if (!Object.hasOwn(value, key)) fail(` has no ${key}`);
  // A key that we do not know could change what the others mean.
  for (const key of Object.keys(value)) if (!KEYS.includes(key)) fail(` has the unknown key ${quote(key)}`);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && (size as number) >= 0);
}

/** The tensors, in order of their bytes, must lie side by side from the header's end to the file's. */
function checkCover(tensors: readonly TensorEntry[], dataStart: number, fileSize: number, file: string): void {
  let covered = dataStart;
  let before = "";
  for (const { name, start, end } of tensors) {
    if (start < covered) throw new InputError(`${file}: tensor ${quote(name)} overlaps tensor ${quote(before)}`);
    if (start > covered) throw new InputError(`${file}: ${start - covered} bytes before tensor ${quote(name)} belong to no tensor`);
    covered = end;
    before = name;
  }
  if (covered < fileSize) throw new InputError(`${file}: the last ${fileSize - covered} bytes belong to no tensor`);
}
