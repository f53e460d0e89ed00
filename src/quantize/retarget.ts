import type { LinearAlgebra } from "../engine/engine.js";
import type { PreparedHessian } from "./hessian.js";
import { findNonFinite } from "./matrix.js";
import { sharedMean } from "./shared.js";
import { transposed, untranspose } from "./transpose.js";

/**
 * How the inputs of a linear differ between the original model (X) and the quantized one (X̃): C = (X − X̃)ᵀX̃ / tokens [n, n],
 * channels as they lie, in shared memory.
 */
export interface CrossCorrelation {
  readonly matrix: Float32Array;
}

/** What weights are retargeted by: C and the Hessian of the quantized model's inputs as they are, without the scales of `awq`. */
export interface Retargeting {
  readonly cross: CrossCorrelation;
  readonly hessian: Pick<PreparedHessian, "n" | "tokens" | "factor" | "permutation">;
}

/** Why nothing can be retargeted by what was gathered. */
export interface CrossProblem {
  readonly problem: "not finite";
  /** One sentence without the linear's name. */
  readonly detail: string;
}

/**
 * Makes ready for the linears of a stage what was gathered of its inputs.
 * @param sum (X − X̃)ᵀX̃ over all tokens [n, n]
 * @param tokens rows of X
 */
export function crossCorrelation(sum: Float32Array, tokens: number): CrossCorrelation | CrossProblem {
  if (findNonFinite(sum) >= 0) return { problem: "not finite", detail: "its input in the original model holds NaN or infinity" };
  return { matrix: sharedMean(sum, tokens) };
}

/**
 * How much more of the streams' difference is noise, to a linear map of the inputs, than not. A correction with n unknowns a row that is
 * fitted to T tokens gathers n / T of it, so α = 1 / (1 + NOISE · n / T) of the correction is the most that it is worth (Copas 1983).
 * Chosen by how much nearer outputs come to the original's on other texts (4 and 3 bits, no refine). Of what the best α of each linear
 * would give, 8 gives 87 and 97 % on the first four layers of SmolLM2 after 4,096 and 24,576 tokens, and 97 and 99 % on the demo model
 * after 4,096 and 16,384; 4 gives 74, 96, 97 and 99 %, and 16 gives 75, 94, 89 and 97 %. After 1,024 tokens 8 gives nothing, and 16 60 %.
 * Asking the tokens is no cheaper way: the share of the correction's energy that two halves of them agree on comes out too small (60, 84,
 * 90 and 96 %), since each half has a Hessian of its own; a correction of each half, with its own, tried on the other half is good
 * (95, 99.6, 95 and 99 %), but takes two more factors a stage.
 */
const NOISE = 8;

/** Rows of C and of the factor that are copied at a time: they lie in shared memory, which engines refuse. */
const PANEL = 256;

/**
 * The weight that does on the quantized model's inputs what `weight` does on the original's, as nearly as can be: up to a constant,
 * ‖X·Wᵀ − X̃·Ŵᵀ‖² is ‖X̃·(W* − Ŵ)ᵀ‖² with W* = W + W·C·(H + λI)⁻¹ (Qronos, arXiv 2505.11695; GPTAQ, arXiv 2504.02692).
 * The damping λ is the Hessian's, and of the correction only α is added (see `NOISE`). Columns of dead inputs stay as they are.
 * Scaled inputs would be another damping, too little for the channels that scales make quieter: hence what is scaled is W*.
 * @param weight [rows, n]; any rows of a matrix
 * @returns W* [rows, n]
 */
export async function retargeted(
  la: LinearAlgebra, weight: Float32Array, rows: number, { cross: { matrix }, hessian: { n, tokens, factor, permutation } }: Retargeting,
): Promise<Float32Array<ArrayBuffer>> {
  const natural = Int32Array.from({ length: n }, (_, i) => i);
  const columns = transposed(weight, rows, natural);
  const product = new Float32Array(rows * n);
  for (let start = 0; start < n; start += PANEL) {
    const end = Math.min(start + PANEL, n);
    await la.gemm({ m: rows, n, k: end - start, a: columns.subarray(start * rows, end * rows), b: matrix.slice(start * n, end * n), c: product, transA: true, beta: 1 });
  }

  // Rᵀ·R of the product's columns, in the factor's order: each panel of R is read once, and only what is not zero.
  const b = transposed(product, rows, permutation);
  const solved = new Float32Array(rows * n);
  const through = new Float32Array(Math.min(PANEL, n) * rows);
  for (let start = 0; start < n; start += PANEL) {
    const end = Math.min(start + PANEL, n);
    const panel = rightOf(factor, n, start, end);
    const part = through.subarray(0, (end - start) * rows);
    await la.gemm({ m: end - start, n: rows, k: n - start, a: panel, b: b.subarray(start * rows), c: part });
    await la.gemm({ m: n - start, n: rows, k: end - start, a: panel, b: part, c: solved.subarray(start * rows), transA: true, beta: 1 });
  }
  untranspose(solved, product, rows, permutation);
  const alpha = 1 / (1 + (NOISE * n) / tokens);
  return product.map((correction, i) => weight[i] + alpha * correction);
}

/** Rows start … end of a matrix [n, n] from column `start` on. */
function rightOf(matrix: Float32Array, n: number, start: number, end: number): Float32Array<ArrayBuffer> {
  const width = n - start;
  const part = new Float32Array((end - start) * width);
  for (let i = start; i < end; i++) part.set(matrix.subarray(i * n + start, (i + 1) * n), (i - start) * width);
  return part;
}
