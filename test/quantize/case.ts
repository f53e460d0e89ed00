import { prepareHessian, type PreparedHessian } from "#src/quantize/hessian.js";
import type { Order } from "#src/quantize/scheme.js";
import { plainLinearAlgebra as la } from "../engine/plain-linear-algebra.js";
import { activations, gaussians, generator, gram } from "./random.js";

export const DAMP = 0.02;

/** Rows of a weight and the Hessian of their input, as models have them, roughly. */
export interface Case {
  readonly n: number;
  readonly rows: number;
  readonly tokens: number;
  readonly sum: Float32Array<ArrayBuffer>;
  readonly weight: Float32Array<ArrayBuffer>;
}

export function makeCase(n: number, rows: number, dead: readonly number[] = [], seed = 1000 * n + rows): Case {
  const random = generator(seed);
  const tokens = 2 * n + 8;
  return { n, rows, tokens, sum: gram(activations(tokens, n, random, dead), tokens, n), weight: gaussians(rows * n, random, 0.1) };
}

export async function prepared(c: Case, order: Order, groupSize: number, unit = groupSize): Promise<PreparedHessian> {
  const h = await prepareHessian(la, c.sum, c.tokens, { order, groupSize, unit, damp: DAMP });
  if ("problem" in h) throw new Error(h.detail);
  return h;
}

/** H as its channels lie. */
export function asChannelsLie({ n, matrix, permutation }: PreparedHessian): Float32Array {
  const h = new Float32Array(n * n);
  permutation.forEach((i, p) => permutation.forEach((j, q) => (h[i * n + j] = matrix[p * n + q])));
  return h;
}
