/** A type of ggml's tensors (ggml.h, `ggml_type`): rows are made of blocks of `weights` values that take `bytes` together. */
export interface GgmlType {
  readonly name: string;
  readonly id: number;
  readonly weights: number;
  readonly bytes: number;
}

/** Name, number, weights and bytes of a block, as gguf-py 0.19 has them. Q4_2 and Q4_3, 4 and 5, are gone. */
const ALL: readonly (readonly [string, number, number, number])[] = [
  ["F32", 0, 1, 4], ["F16", 1, 1, 2], ["Q4_0", 2, 32, 18], ["Q4_1", 3, 32, 20], ["Q5_0", 6, 32, 22], ["Q5_1", 7, 32, 24], ["Q8_0", 8, 32, 34],
  ["Q8_1", 9, 32, 40], ["Q2_K", 10, 256, 84], ["Q3_K", 11, 256, 110], ["Q4_K", 12, 256, 144], ["Q5_K", 13, 256, 176], ["Q6_K", 14, 256, 210],
  ["Q8_K", 15, 256, 292], ["IQ2_XXS", 16, 256, 66], ["IQ2_XS", 17, 256, 74], ["IQ3_XXS", 18, 256, 98], ["IQ1_S", 19, 256, 50], ["IQ4_NL", 20, 32, 18],
  ["IQ3_S", 21, 256, 110], ["IQ2_S", 22, 256, 82], ["IQ4_XS", 23, 256, 136], ["I8", 24, 1, 1], ["I16", 25, 1, 2], ["I32", 26, 1, 4], ["I64", 27, 1, 8],
  ["F64", 28, 1, 8], ["IQ1_M", 29, 256, 56], ["BF16", 30, 1, 2], ["TQ1_0", 34, 256, 54], ["TQ2_0", 35, 256, 66], ["MXFP4", 39, 32, 17],
  ["NVFP4", 40, 64, 36], ["Q1_0", 41, 128, 18],
];

const TYPES: readonly GgmlType[] = ALL.map(([name, id, weights, bytes]) => ({ name, id, weights, bytes }));
const BY_NAME = new Map(TYPES.map((type) => [type.name, type]));
const BY_ID = new Map(TYPES.map((type) => [type.id, type]));

/** The type of that name, which must be one of ggml's. */
export function ggmlType(name: string): GgmlType {
  const type = BY_NAME.get(name);
  if (type === undefined) throw new Error(`ggml has no type ${name}`);
  return type;
}

/** The type of that number; undefined for one that is not known. */
export function ggmlTypeOf(id: number): GgmlType | undefined {
  return BY_ID.get(id);
}
