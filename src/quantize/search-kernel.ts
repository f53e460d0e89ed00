import { func, int, repeat, sum } from "../wasm/code.js";
import { increase, overRows } from "../wasm/rows.js";
import { workspacesOf, type Workspace } from "../wasm/workspace.js";
import { MOST_CANDIDATES } from "./candidates.js";

/**
 * sums [candidates] = Σ_j h_j (w_j − o − s·q_j)², q_j the integer of low … high next to (w_j − o) / s.
 * @param w, h [size]
 * @param grids [5, candidates]: s, 1 / s, low, high, o
 * @param stride bytes of a row of `grids`
 */
const sums = func(6, ([into, w, h, grids, size, stride], declare) => {
  const [j, weight, importance, scales, inverses, lows, highs, offsets] = Array.from({ length: 8 }, () => declare());
  return overRows(declare, stride, (row, { type, zero, load, store, splat, add, sub, mul, min, max, nearest }, vectors) => {
    const [x, y, d] = [declare(type), declare(type), declare(type)];
    const totals = vectors.map(() => declare(type));
    return [
      ...scales.set(sum(grids.get, row.get)), ...inverses.set(sum(scales.get, stride.get)), ...lows.set(sum(inverses.get, stride.get)),
      ...highs.set(sum(lows.get, stride.get)), ...offsets.set(sum(highs.get, stride.get)),
      ...totals.flatMap((total) => total.set(zero)),
      ...weight.set(w.get), ...importance.set(h.get), ...j.set(int(0)),
      ...repeat(j, int(1), size.get, [
        ...x.set(splat(weight.get)),
        ...vectors.flatMap((at, v) => [
          ...y.set(sub(x.get, load(offsets.get, at))),
          ...d.set(sub(y.get, mul(load(scales.get, at), max(min(nearest(mul(y.get, load(inverses.get, at))), load(highs.get, at)), load(lows.get, at))))),
          ...totals[v].set(add(totals[v].get, mul(splat(importance.get), mul(d.get, d.get)))),
        ]),
        ...increase(weight, int(4)), ...increase(importance, int(4)),
      ]),
      ...vectors.flatMap((at, v) => store(sum(into.get, row.get), totals[v].get, at)),
    ];
  });
});

interface SearchViews {
  readonly w: Float32Array;
  readonly h: Float32Array;
  readonly grids: Float32Array;
  readonly sums: Float32Array;
}

let workspace: Workspace<"sums"> | undefined;
let views: SearchViews | undefined;

/** What the kernel works on, for groups of this size; whoever asks next is given the same. */
export function searchViews(size: number): SearchViews {
  workspace ??= workspacesOf({ sums }).take();
  if (views?.w.length !== size) views = workspace.views({ w: size, h: size, grids: 5 * MOST_CANDIDATES, sums: MOST_CANDIDATES });
  return views;
}

/** Sums in `sums` what `candidates` grids leave, a multiple of four of them, whose rows in `grids` are as long. */
export function sumErrors({ w, h, grids, sums: into }: SearchViews, candidates: number): void {
  workspace!.kernels.sums(into.byteOffset, w.byteOffset, h.byteOffset, grids.byteOffset, w.length, 4 * candidates);
}
