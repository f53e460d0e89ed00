type NumberType = "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "f64";
type BigType = "u64" | "i64";

/** GGUF's types of single values. */
export type GgufScalar =
  | { readonly type: NumberType; readonly value: number }
  | { readonly type: BigType; readonly value: bigint }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string };

/** A typed value of a GGUF key. */
export type GgufValue =
  | GgufScalar
  | { readonly type: "array"; readonly of: NumberType; readonly values: ArrayLike<number> }
  | { readonly type: "array"; readonly of: BigType; readonly values: ArrayLike<bigint> }
  | { readonly type: "array"; readonly of: "bool"; readonly values: readonly boolean[] }
  | { readonly type: "array"; readonly of: "string"; readonly values: readonly string[] };

/** A key with its value, in the order in which they are written. */
export type GgufKey = readonly [name: string, value: GgufValue];

/** How values of one length lie in a file. */
export interface Codec<T> {
  /** `gguf_metadata_value_type` of the specification (ggml/docs/gguf.md). */
  readonly id: number;
  readonly bytes: number;
  get(view: DataView, at: number): T;
  set(view: DataView, at: number, value: T): void;
}

export type FixedType = Exclude<GgufScalar["type"], "string">;

export const CODECS: { readonly [T in FixedType]: Codec<T extends NumberType ? number : T extends BigType ? bigint : boolean> } = {
  u8: { id: 0, bytes: 1, get: (view, at) => view.getUint8(at), set: (view, at, value) => { view.setUint8(at, value); } },
  i8: { id: 1, bytes: 1, get: (view, at) => view.getInt8(at), set: (view, at, value) => { view.setInt8(at, value); } },
  u16: { id: 2, bytes: 2, get: (view, at) => view.getUint16(at, true), set: (view, at, value) => { view.setUint16(at, value, true); } },
  i16: { id: 3, bytes: 2, get: (view, at) => view.getInt16(at, true), set: (view, at, value) => { view.setInt16(at, value, true); } },
  u32: { id: 4, bytes: 4, get: (view, at) => view.getUint32(at, true), set: (view, at, value) => { view.setUint32(at, value, true); } },
  i32: { id: 5, bytes: 4, get: (view, at) => view.getInt32(at, true), set: (view, at, value) => { view.setInt32(at, value, true); } },
  f32: { id: 6, bytes: 4, get: (view, at) => view.getFloat32(at, true), set: (view, at, value) => { view.setFloat32(at, value, true); } },
  bool: { id: 7, bytes: 1, get: (view, at) => view.getUint8(at) !== 0, set: (view, at, value) => { view.setUint8(at, value ? 1 : 0); } },
  u64: { id: 10, bytes: 8, get: (view, at) => view.getBigUint64(at, true), set: (view, at, value) => { view.setBigUint64(at, value, true); } },
  i64: { id: 11, bytes: 8, get: (view, at) => view.getBigInt64(at, true), set: (view, at, value) => { view.setBigInt64(at, value, true); } },
  f64: { id: 12, bytes: 8, get: (view, at) => view.getFloat64(at, true), set: (view, at, value) => { view.setFloat64(at, value, true); } },
};

/** The types whose values have no fixed length. */
export const STRING_ID = 8;
export const ARRAY_ID = 9;
