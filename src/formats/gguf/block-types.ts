import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import type { QuantScheme } from "../../quantize/scheme.js";
import { packQ4_0, unpackQ4_0 } from "./q4-0.js";
import { packQ4_1, unpackQ4_1 } from "./q4-1.js";
import { packQ4_K, unpackQ4_K } from "./q4-k.js";
import { packQ6_K, unpackQ6_K } from "./q6-k.js";
import { packQ8_0, unpackQ8_0 } from "./q8-0.js";

/** A type of GGUF in which quantized linears are stored. */
export interface BlockType {
  /** As llama.cpp names it, and as it stands in file names. */
  readonly name: "Q4_0" | "Q4_1" | "Q4_K" | "Q6_K" | "Q8_0";
  readonly bits: number;
  /** Weights lie around zero: w = d · (q − 2^(bits − 1)). */
  readonly symmetric: boolean;
  /** Weights that share a scale. */
  readonly group: number;
  /** Weights and bytes of a block; `bytes` tells the types apart. */
  readonly weights: number;
  readonly bytes: number;
  /** general.file_type of a file whose linears are mostly of this type (llama.h, `llama_ftype`). */
  readonly fileType: number;
  /** Blocks [out, in / weights, bytes]. Throws `InputError` for values that the type cannot hold. */
  pack(name: string, linear: QuantizedLinear): Uint8Array<ArrayBuffer>;
  /** The inverse. Throws `InputError` for values that are not finite. */
  unpack(name: string, bytes: Uint8Array<ArrayBuffer>, outFeatures: number, inFeatures: number): QuantizedLinear;
}

const Q4_0: BlockType = { name: "Q4_0", bits: 4, symmetric: true, group: 32, weights: 32, bytes: 18, fileType: 2, pack: packQ4_0, unpack: unpackQ4_0 };
const Q4_1: BlockType = { name: "Q4_1", bits: 4, symmetric: false, group: 32, weights: 32, bytes: 20, fileType: 3, pack: packQ4_1, unpack: unpackQ4_1 };
/** Its file type is that of llama.cpp's Q4_K_S, which differs from Q4_K_M in what else is in the file. */
const Q4_K: BlockType = { name: "Q4_K", bits: 4, symmetric: false, group: 32, weights: 256, bytes: 144, fileType: 14, pack: packQ4_K, unpack: unpackQ4_K };
const Q6_K: BlockType = { name: "Q6_K", bits: 6, symmetric: true, group: 16, weights: 256, bytes: 210, fileType: 18, pack: packQ6_K, unpack: unpackQ6_K };
const Q8_0: BlockType = { name: "Q8_0", bits: 8, symmetric: true, group: 32, weights: 32, bytes: 34, fileType: 7, pack: packQ8_0, unpack: unpackQ8_0 };

export const BLOCK_TYPES: readonly BlockType[] = [Q4_0, Q4_1, Q4_K, Q6_K, Q8_0];

/** The type that holds a scheme's grid; undefined where none does. */
export function blockTypeOf({ bits, symmetric, offsets }: Pick<QuantScheme, "bits" | "symmetric" | "offsets">): BlockType | undefined {
  if (bits === 4 && offsets === "super-block") return Q4_K;
  if (bits === 6) return Q6_K;
  if (bits === 4) return symmetric ? Q4_0 : Q4_1;
  return bits === 8 && symmetric ? Q8_0 : undefined;
}
