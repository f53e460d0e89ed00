import type { IKernelFunctionThis } from "gpu.js";

/**
 * Chooses each group's grid, of candidates that the CPU proposes: the one with the least Σ h_j (w_j − ŵ_j)², h the diagonal of the Hessian; of equals the
 * first. Groups and outputs do not depend on each other: a thread each. Four candidates are gone through at once, so that of a weight and
 * its h, loaded for all four, come 0.5 loads for each square that is added.
 *
 * No engine uses it: GPTQ reaches a group's grid in the middle of a block, which the CPU works on, and sums in single precision would now and then choose
 * another of two candidates that are all but equal.
 * Threads: [outputs, groups].
 * @param w [groups · this.constants.size, outputs]: a column of a weight matrix is a row
 * @param h [1, groups · this.constants.size], ≥ 0
 * @param scales, inverses, lows, offsets [groups · this.constants.candidates, outputs]: of each candidate the scale, one over it, the least integer,
 * and the offset; their number is a multiple of four, filled up with repetitions
 * @param span the largest code
 * @returns which candidate, and its sum
 */
export function search(
  this: IKernelFunctionThis<{ size: number; candidates: number }>,
  w: number[][], h: number[][], scales: number[][], inverses: number[][], lows: number[][], offsets: number[][], span: number,
): [number, number] {
  const x = this.thread.x;
  const first = this.thread.y * this.constants.size;
  const group = this.thread.y * this.constants.candidates;
  let winner = 0;
  let least = 3e38;
  for (let four = 0; four < this.constants.candidates; four += 4) {
    const at = group + four;
    const s0 = scales[at][x];
    const s1 = scales[at + 1][x];
    const s2 = scales[at + 2][x];
    const s3 = scales[at + 3][x];
    const i0 = inverses[at][x];
    const i1 = inverses[at + 1][x];
    const i2 = inverses[at + 2][x];
    const i3 = inverses[at + 3][x];
    const l0 = lows[at][x];
    const l1 = lows[at + 1][x];
    const l2 = lows[at + 2][x];
    const l3 = lows[at + 3][x];
    const o0 = offsets[at][x];
    const o1 = offsets[at + 1][x];
    const o2 = offsets[at + 2][x];
    const o3 = offsets[at + 3][x];
    let e0 = 0;
    let e1 = 0;
    let e2 = 0;
    let e3 = 0;
    for (let j = 0; j < this.constants.size; j++) {
      const value = w[first + j][x];
      const weight = h[0][first + j];
      // Halves go up here, and not to the even code: which of the two does not change the error.
      const d0 = value - o0 - s0 * Math.max(l0, Math.min(l0 + span, Math.floor((value - o0) * i0 + 0.5)));
      const d1 = value - o1 - s1 * Math.max(l1, Math.min(l1 + span, Math.floor((value - o1) * i1 + 0.5)));
      const d2 = value - o2 - s2 * Math.max(l2, Math.min(l2 + span, Math.floor((value - o2) * i2 + 0.5)));
      const d3 = value - o3 - s3 * Math.max(l3, Math.min(l3 + span, Math.floor((value - o3) * i3 + 0.5)));
      e0 += weight * d0 * d0;
      e1 += weight * d1 * d1;
      e2 += weight * d2 * d2;
      e3 += weight * d3 * d3;
    }
    if (e0 < least) {
      least = e0;
      winner = four;
    }
    if (e1 < least) {
      least = e1;
      winner = four + 1;
    }
    if (e2 < least) {
      least = e2;
      winner = four + 2;
    }
    if (e3 < least) {
      least = e3;
      winner = four + 3;
    }
  }
  return [winner, least];
}

export const SEARCH_ARGUMENTS = { w: "Input", h: "Input", scales: "Input", inverses: "Input", lows: "Input", offsets: "Input", span: "Integer" } as const;

/** Of one group's candidates, as rows of the arguments of `search`, the error of each in output x, in double precision. */
export function plainErrors(
  w: readonly Float32Array[], h: ArrayLike<number>, scales: readonly Float32Array[], lows: readonly Float32Array[], offsets: readonly Float32Array[], span: number, x: number,
): number[] {
  return scales.map((row, c) => {
    const [scale, low, offset] = [row[x], lows[c][x], offsets[c][x]];
    return w.reduce((sum, values, j) => {
      const q = Math.min(Math.max(Math.round((values[x] - offset) / scale), low), low + span);
      return sum + h[j] * (values[x] - offset - scale * q) ** 2;
    }, 0);
  });
}
