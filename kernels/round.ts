import type { IKernelFunctionThis } from "gpu.js";

/**
 * Rounds a block of columns to its grid, halves to the even code: q = the integer next to (w − offset) / scale, kept on the grid, which leaves
 * scale · q + offset. A column of a weight matrix is a row here, over all its outputs; each output has a grid of its own. Per value two operations
 * to find q, and as few loads as there are operands: it is bound by memory, 20 bytes a value beside the grids.
 *
 * No engine uses it: within a block each column waits for the errors of those before it, so that the CPU, which must choose the scales, is done before a block
 * would have crossed over and come back.
 * Threads: [outputs, columns].
 * @param w [columns, outputs]
 * @param grids [4, outputs]: one over the scale, as divisions differ from device to device; the scale; the least integer, less what stands for 0; the offset
 * @param span the largest code
 * @returns the code, 0 … span, and what it stands for
 */
export function round(this: IKernelFunctionThis, w: number[][], grids: number[][], span: number): [number, number] {
  const x = this.thread.x;
  const low = grids[2][x];
  const offset = grids[3][x];
  const exact = (w[this.thread.y][x] - offset) * grids[0][x];
  // Math.round takes halves up, and adding a large number to take it off again is what compilers for GPUs may leave out.
  let q = Math.floor(exact);
  const beyond = exact - q;
  if (beyond > 0.5) q += 1;
  if (beyond === 0.5) q += q - 2 * Math.floor(q / 2);
  q = Math.max(low, Math.min(low + span, q));
  return [q - low, grids[1][x] * q + offset];
}

export const ROUND_ARGUMENTS = { w: "Input", grids: "Input", span: "Integer" } as const;

/** What `round` computes: code and value side by side, [columns, 2 · outputs]. */
export function plainRound(w: readonly Float32Array[], grids: readonly Float32Array[], span: number): Float32Array[] {
  const [inverses, scales, lows, offsets] = grids;
  return w.map((column) => {
    const left = new Float32Array(2 * column.length);
    column.forEach((value, x) => {
      const exact = Math.fround(Math.fround(value - offsets[x]) * inverses[x]);
      const below = Math.floor(exact);
      const nearest = exact - below === 0.5 ? below + Math.abs(below % 2) : Math.round(exact);
      const q = Math.min(Math.max(nearest, lows[x]), lows[x] + span);
      left.set([q - lows[x], scales[x] * q + offsets[x]], 2 * x);
    });
    return left;
  });
}
