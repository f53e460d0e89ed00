import { partOf, type Coefficients } from "../engine/resident.js";
import type { PreparedHessian } from "./hessian.js";

/** Input channels up to which a thread keeps a copy of H of its own, of 16 MB at most: what threads share is slow to copy. */
const OWN_CHANNELS = 2048;

/** H + λI in the Hessian's order. */
export class Metric {
  /** By position. */
  readonly dead: readonly boolean[];
  /** Of the diagonal. */
  readonly meanCurve: number;
  readonly coefficients: Coefficients;

  /** @param here no device is to have it: then it need not lie in shared memory */
  constructor({ id, n, matrix, permutation, diagonal, dead }: PreparedHessian, here: boolean) {
    this.coefficients = { n, matrix, symmetric: true, diagonal: Float64Array.from(permutation, (channel) => diagonal[channel]), key: `${id} metric` };
    if (here && n <= OWN_CHANNELS) this.coefficients = { n, matrix: partOf(this.coefficients, 0, n, 0, n), symmetric: true, key: id };
    this.meanCurve = diagonal.reduce((a, b) => a + b, 0) / n;
    const isDead = new Set(dead);
    this.dead = Array.from(permutation, (channel) => isDead.has(channel));
  }

  /** Rows r0 … r1 of columns c0 … c1, contiguous. */
  part(r0: number, r1: number, c0: number, c1: number): Float32Array<ArrayBuffer> {
    return partOf(this.coefficients, r0, r1, c0, c1);
  }
}
