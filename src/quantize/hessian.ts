import type { LinearAlgebra } from "../engine/engine.js";
import { inverseCholesky } from "../engine/linear-algebra.js";
import { findNonFinite } from "./matrix.js";
import { channelOrder } from "./order.js";
import type { Order } from "./scheme.js";
import { shared } from "./shared.js";

export interface HessianOptions {
  readonly order: Order;
  /** A divisor of n. */
  readonly groupSize: number;
  /** Channels that stay together in the group-aware order as well (`gridUnit`). Default: a group. */
  readonly unit?: number;
  /** λ as a fraction of the mean diagonal; 0.01 … 0.05 are usual. */
  readonly damp: number;
  /**
   * By how much each diagonal element grows besides, after very many tokens: correlations between channels count 1 / (1 + that) of what the calibration text
   * shows (shrinkage towards the diagonal, Ledoit & Wolf 2004). After T tokens of n channels it is 1 + `FEW` · n / T times as much. Default 0.
   */
  readonly shrink?: number;
}

/**
 * What the methods need of H = XᵀX / tokens, so that tr(Δ·H·Δᵀ) is the squared output error of a token. Everything that is
 * large lies in shared memory: several threads read it at once, and none may write.
 */
export interface PreparedHessian {
  /** Of its own, by which threads know it for the same. */
  readonly id: string;
  /** Input channels. */
  readonly n: number;
  /** Tokens that went into it. */
  readonly tokens: number;
  /** P·H·Pᵀ [n, n], H without damping: row and column p belong to channel permutation[p]. */
  readonly matrix: Float32Array;
  /** [n, n] upper triangular with (P(H + λI)Pᵀ)⁻¹ = RᵀR, zero below the diagonal; in the same order. */
  readonly factor: Float32Array;
  /** The diagonal of what was factored [n], channels as they lie: H_jj as it was shrunk, and λ. Dead inputs have the mean of the others for H_jj. */
  readonly diagonal: Float64Array;
  /** [n]: the channel visited at each position. */
  readonly permutation: Int32Array;
  /** Channels whose input was zero on every token, rising. Nothing is known of them: GPTQ sets their weights to 0. */
  readonly dead: Int32Array;
  /** λ, absolute; beside scales (`awq`) that of the unscaled H. */
  readonly lambda: number;
  /** The fraction of the mean diagonal that λ came to be, and how often it was raised to get there. */
  readonly damp: number;
  readonly raised: number;
  readonly order: Order;
  readonly groupSize: number;
}

/** Why a linear cannot be calibrated with what was gathered; it is then to be rounded to nearest, and said so. */
export interface HessianProblem {
  readonly problem: "no tokens" | "not finite" | "not positive definite";
  /** One sentence without the linear's name. */
  readonly detail: string;
}

/**
 * By what n / T counts in the shrinkage. On SmolLM2 after 8,192 tokens (n / T is 0.07, and 0.19) the best on other texts is 0.5 and more: KL divergences on wiki.txt
 * are 0.115, 0.107, 0.104 and 0.103 with 0.1, 0.25, 0.5 and 1 (4 bits, retargeted, 4 sweeps), and 0.105 with 0.1 so enlarged. After 65,536 on the demo model (0.002, and
 * 0.006) it is 0.1 or less. What it spares most is retargeting, which with too little leads astray.
 */
const FEW = 50;

const DAMP_STEP = 0.01;
const DAMP_LIMIT = 1;

/**
 * Makes ready a stage's Hessian for the linears that share it. Made to be run by `Engine.call`: `sum` may be moved.
 * Damping that is too little for a Cholesky factor rises in steps of 0.01 up to 1.
 * @param sum XᵀX over all tokens [n, n], symmetric
 * @param tokens rows of X
 */
export async function prepareHessian(
  la: LinearAlgebra, sum: Float32Array, tokens: number, { order, groupSize, unit, damp, shrink = 0 }: HessianOptions,
): Promise<PreparedHessian | HessianProblem> {
  const n = Math.sqrt(sum.length);
  if (!(tokens > 0)) return { problem: "no tokens", detail: "no calibration token reached it" };
  const bad = findNonFinite(sum);
  if (bad >= 0) {
    const pair = [Math.floor(bad / n), bad % n];
    return { problem: "not finite", detail: `its input holds NaN or infinity: the Hessian is ${sum[bad]} at channels ${pair.join(" and ")}` };
  }

  const diagonal = shared(Float64Array, n);
  for (let j = 0; j < n; j++) diagonal[j] = Math.fround(sum[j * n + j] / tokens);
  const permutation = shared(Int32Array, n);
  permutation.set(channelOrder(order, diagonal, groupSize, unit));
  const matrix = shared<Float32Array<SharedArrayBuffer>>(Float32Array, n * n);
  for (let p = 0; p < n; p++) for (let q = 0; q < n; q++) matrix[p * n + q] = sum[permutation[p] * n + permutation[q]] / tokens;
  const dead = Int32Array.from(diagonal.keys()).filter((j) => !(diagonal[j] > 0));
  const total = diagonal.reduce((a, b) => a + b, 0);
  // The mean of the others rather than 1, so that nothing depends on how large the activations are.
  const mean = dead.length < n ? total / (n - dead.length) : 1;
  for (const j of dead) diagonal[j] = mean;
  for (let j = 0; j < n; j++) diagonal[j] *= 1 + shrink * (1 + (FEW * n) / tokens);

  const damped = new Float64Array(n * n);
  let fraction = damp;
  for (let raised = 0; ; raised++) {
    const lambda = fraction * mean;
    damped.set(matrix);
    for (let p = 0; p < n; p++) damped[p * n + p] = diagonal[permutation[p]] + lambda;
    const inverse = await inverseCholesky(la, damped, n);
    if (inverse !== undefined) {
      const factor = shared(Float32Array, n * n);
      factor.set(inverse);
      for (let j = 0; j < n; j++) diagonal[j] = diagonal[j] + lambda;
      return { id: crypto.randomUUID(), n, tokens, matrix, factor, diagonal, permutation, dead, lambda, damp: fraction, raised, order, groupSize };
    }
    if (fraction >= DAMP_LIMIT) {
      return { problem: "not positive definite", detail: `its Hessian is not positive definite, even with damping ${fraction.toFixed(2)}` };
    }
    fraction = Math.min(DAMP_LIMIT, damp + (raised + 1) * DAMP_STEP);
  }
}
