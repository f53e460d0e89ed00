/** GGUF's types of single values, as its specification names them, without the ones no key of ours has. */
export type GgufScalar =
  | { readonly type: "u32" | "i32" | "f32"; readonly value: number }
  | { readonly type: "u64"; readonly value: bigint }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string };

/** A typed value of a GGUF key. */
export type GgufValue =
  | GgufScalar
  | { readonly type: "array"; readonly of: "u32" | "i32" | "f32"; readonly values: ArrayLike<number> }
  | { readonly type: "array"; readonly of: "string"; readonly values: readonly string[] };

/** A key with its value, in the order in which they are written. */
export type GgufKey = readonly [name: string, value: GgufValue];
