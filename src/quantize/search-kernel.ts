import { func, int, repeat, sum } from "../wasm/code.js";
import { increase, overRows } from "../wasm/rows.js";
import { workspacesOf, type Workspace } from "../wasm/workspace.js";
import { Candidates, MOST_CANDIDATES } from "./candidates.js";

/**
 * into [candidates] = Σ_j h_j (w_j − o − s·q_j)², q_j the integer of 0 … last less the zero next to (w_j − o) / s, all of w, s and o times a unit.
 * @param w, h [size]; w times the unit already
 * @param scales, zeros, offsets [candidates], of `stride` bytes
 * @param constants 0, 1, last, unit
 */
const sums = func(9, ([into, w, h, scales, zeros, offsets, constants, size, stride], declare) => {
  const [j, weight, importance] = Array.from({ length: 3 }, () => declare());
  return overRows(declare, stride, (row, { type, load, store, splat, add, sub, mul, div, min, max, nearest }, vectors) => {
    const ofEach = () => vectors.map(() => declare(type));
    const [s, inverse, low, high, o, totals] = [ofEach(), ofEach(), ofEach(), ofEach(), ofEach(), ofEach()];
    const [x, y, d] = [declare(type), declare(type), declare(type)];
    const [zero, one, last, unit] = [0, 4, 8, 12].map((at) => splat(sum(constants.get, int(at))));
    return [
      ...vectors.flatMap((at, v) => [
        ...s[v].set(mul(load(sum(scales.get, row.get), at), unit)), ...inverse[v].set(div(one, s[v].get)),
        ...low[v].set(sub(zero, load(sum(zeros.get, row.get), at))), ...high[v].set(add(low[v].get, last)),
        ...o[v].set(mul(load(sum(offsets.get, row.get), at), unit)), ...totals[v].set(zero),
      ]),
      ...weight.set(w.get), ...importance.set(h.get), ...j.set(int(0)),
      ...repeat(j, int(1), size.get, [
        ...x.set(splat(weight.get)),
        ...vectors.flatMap((_, v) => [
          ...y.set(sub(x.get, o[v].get)),
          ...d.set(sub(y.get, mul(s[v].get, max(min(nearest(mul(y.get, inverse[v].get)), high[v].get), low[v].get)))),
          ...totals[v].set(add(totals[v].get, mul(splat(importance.get), mul(d.get, d.get)))),
        ]),
        ...increase(weight, int(4)), ...increase(importance, int(4)),
      ]),
      ...vectors.flatMap((at, v) => store(sum(into.get, row.get), totals[v].get, at)),
    ];
  });
});

export interface SearchViews {
  readonly candidates: Candidates;
  readonly w: Float32Array;
  readonly h: Float32Array;
  readonly sums: Float32Array;
  readonly constants: Float32Array;
}

let workspace: Workspace<"sums"> | undefined;
let views: SearchViews | undefined;

/** What the kernel works on, for groups of this size; whoever asks next is given the same. */
export function searchViews(size: number): SearchViews {
  workspace ??= workspacesOf({ sums }).take();
  if (views?.w.length !== size) {
    const { scales, zeros, offsets, ...rest } = workspace.views({ scales: MOST_CANDIDATES, zeros: MOST_CANDIDATES, offsets: MOST_CANDIDATES, sums: MOST_CANDIDATES, constants: 4, w: size, h: size });
    views = { candidates: new Candidates(scales, zeros, offsets), ...rest };
  }
  return views;
}

/** Sums what each of the candidates leaves of w · unit, w being that in the views already. */
export function sumErrors({ candidates: { count, scales, zeros, offsets }, w, h, sums: into, constants }: SearchViews, last: number, unit: number): void {
  // Whole vectors of them.
  const end = Math.ceil(count / 4) * 4;
  for (const values of [scales, zeros, offsets]) values.fill(values[0], count, end);
  constants.set([0, 1, last, unit]);
  workspace!.kernels.sums(into.byteOffset, w.byteOffset, h.byteOffset, scales.byteOffset, zeros.byteOffset, offsets.byteOffset, constants.byteOffset, w.length, 4 * end);
}
