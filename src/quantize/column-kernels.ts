import { func, int, repeat, sum, type Code, type Declare, type Func, type Lanes, type Local } from "../wasm/code.js";
import { increase, overRows } from "../wasm/rows.js";
import { workspacesOf } from "../wasm/workspace.js";

// What the methods do to columns of some rows. A column is a contiguous run of all rows, `stride` bytes long; matrices [columns, rows] and vectors are given by
// their addresses. Rows do not influence each other, and each comes out the same whatever stands beside it.

/**
 * values[v] −= Σ_{i<j} coefficient_i · x_i, over the columns of x before the one at hand.
 * @param values what stands in the rows of each vector
 * @param before j, four times: how many bytes coefficients before it would take side by side
 * @param first, apart where the first coefficient lies, and how far one behind the other
 */
function lessEarlier(
  declare: Declare, { type, load, splat, sub, mul }: Lanes, vectors: readonly number[], values: readonly Local[],
  { x, before, first, apart, stride }: { readonly x: Code; readonly before: Local; readonly first: Code; readonly apart: Code; readonly stride: Local },
): Code {
  const [i, column, coefficient, by] = [declare(), declare(), declare(), declare(type)];
  return [
    ...i.set(int(0)), ...column.set(x), ...coefficient.set(first),
    ...repeat(i, int(4), before.get, [
      ...by.set(splat(coefficient.get)),
      ...vectors.flatMap((at, v) => values[v].set(sub(values[v].get, mul(by.get, load(column.get, at))))),
      ...increase(column, stride.get), ...increase(coefficient, apart),
    ]),
  ];
}

/**
 * For columns j = 0, 1, … of a panel in turn: w_j −= Σ_{i<j} factor[i, j] · errors_i; then errors_j = (w_j − ŵ_j) · inverses[j] with ŵ_j = scales · q + offsets, q the
 * integer of lows … highs next to (w_j − offsets) / scales, ŵ_j takes the place of w_j, and codes_j = q − lows.
 * @param grids [4, rows]: scales, lows, highs, offsets
 * @param factor the first row, of `width` bytes, and the first column of the panel
 * @param inverses [columns], of `columns` bytes
 */
const round = func(9, ([w, errors, codes, grids, factor, inverses, columns, width, stride], declare) => {
  const [column, j, scales, lows, highs, offsets] = Array.from({ length: 6 }, () => declare());
  return overRows(declare, stride, (row, lanes, vectors) => {
    const { type, zero, load, store, splat, add, sub, mul, div, min, max, nearest } = lanes;
    const x = vectors.map(() => declare(type));
    const [q, rounded] = [declare(type), declare(type)];
    return [
      ...scales.set(sum(grids.get, row.get)), ...lows.set(sum(scales.get, stride.get)), ...highs.set(sum(lows.get, stride.get)), ...offsets.set(sum(highs.get, stride.get)),
      ...column.set(row.get), ...j.set(int(0)),
      ...repeat(j, int(4), columns.get, [
        ...vectors.flatMap((at, v) => x[v].set(load(sum(w.get, column.get), at))),
        ...lessEarlier(declare, lanes, vectors, x, { x: sum(errors.get, row.get), before: j, first: sum(factor.get, j.get), apart: width.get, stride }),
        ...vectors.flatMap((at, v) => [
          ...q.set(nearest(div(sub(x[v].get, load(offsets.get, at)), load(scales.get, at)))),
          // A sum with zero is never −0, which would show in the weights.
          ...q.set(max(min(add(q.get, zero), load(highs.get, at)), load(lows.get, at))),
          ...rounded.set(add(mul(load(scales.get, at), q.get), load(offsets.get, at))),
          ...store(sum(w.get, column.get), rounded.get, at),
          ...store(sum(errors.get, column.get), mul(sub(x[v].get, rounded.get), splat(sum(inverses.get, j.get))), at),
          ...store(sum(codes.get, column.get), sub(q.get, load(lows.get, at)), at),
        ]),
        ...increase(column, stride.get),
      ]),
    ];
  });
});

/**
 * For columns j = 0, 1, … of a panel in turn: gradient_j −= Σ_{i<j} inside[j, i] · change_i; then integers_j moves to integers_j + gradient_j · inverses ·
 * steps[j] + noises[j], rounded and clamped to lows … highs, and change_j becomes scales times as much. The gradient itself stays as it is.
 * @param grids [4, rows]: scales, inverses (1 over them), lows, highs
 * @param inside [columns, columns]
 * @param width bytes of a row of `inside`, and of `steps` and `noises`
 */
const move = func(9, ([gradient, integers, change, grids, inside, steps, noises, width, stride], declare) => {
  const [column, coefficients, j, scales, inverses, lows, highs] = Array.from({ length: 7 }, () => declare());
  return overRows(declare, stride, (row, lanes, vectors) => {
    const { type, zero, load, store, splat, add, sub, mul, min, max, nearest } = lanes;
    const g = vectors.map(() => declare(type));
    const [before, q] = [declare(type), declare(type)];
    return [
      ...scales.set(sum(grids.get, row.get)), ...inverses.set(sum(scales.get, stride.get)), ...lows.set(sum(inverses.get, stride.get)), ...highs.set(sum(lows.get, stride.get)),
      ...column.set(row.get), ...coefficients.set(inside.get), ...j.set(int(0)),
      ...repeat(j, int(4), width.get, [
        ...vectors.flatMap((at, v) => g[v].set(load(sum(gradient.get, column.get), at))),
        ...lessEarlier(declare, lanes, vectors, g, { x: sum(change.get, row.get), before: j, first: coefficients.get, apart: int(4), stride }),
        ...vectors.flatMap((at, v) => [
          ...before.set(load(sum(integers.get, column.get), at)),
          ...q.set(mul(mul(g[v].get, splat(sum(steps.get, j.get))), load(inverses.get, at))),
          // A sum with zero is never −0, which would show in the weights.
          ...q.set(add(nearest(add(add(before.get, q.get), splat(sum(noises.get, j.get)))), zero)),
          ...q.set(max(min(q.get, load(highs.get, at)), load(lows.get, at))),
          ...store(sum(integers.get, column.get), q.get, at),
          ...store(sum(change.get, column.get), mul(load(scales.get, at), sub(q.get, before.get)), at),
        ]),
        ...increase(column, stride.get), ...increase(coefficients, width.get),
      ]),
    ];
  });
});

/** into [rows] = Σ_j x_j · y_j over `count` columns. */
const dot = func(5, ([into, x, y, count, stride], declare) => {
  const [j, at] = [declare(), declare()];
  return overRows(declare, stride, (row, { type, zero, load, store, add, mul }, vectors) => {
    const sums = vectors.map(() => declare(type));
    return [
      ...sums.flatMap((total) => total.set(zero)), ...at.set(row.get), ...j.set(int(0)),
      ...repeat(j, int(1), count.get, [
        ...vectors.flatMap((offset, v) => sums[v].set(add(sums[v].get, mul(load(sum(x.get, at.get), offset), load(sum(y.get, at.get), offset))))),
        ...increase(at, stride.get),
      ]),
      ...vectors.flatMap((offset, v) => store(sum(into.get, row.get), sums[v].get, offset)),
    ];
  });
});

/**
 * What stretches and shifts of the grids do to `count` columns: growth_j = stretches · integers_j + shifts, and gradient_j −= stretches · products_j + shifts · lifts[j].
 * @param grids [2, rows]: stretches, shifts
 */
const stretch = func(8, ([growth, gradient, integers, products, grids, lifts, count, stride], declare) => {
  const [j, at, lift] = [declare(), declare(), declare()];
  return overRows(declare, stride, (row, { load, store, splat, add, sub, mul }, vectors) => {
    const stretches = (offset: number): Code => load(sum(grids.get, row.get), offset);
    const shifts = (offset: number): Code => load(sum(grids.get, stride.get, row.get), offset);
    return [
      ...at.set(row.get), ...lift.set(lifts.get), ...j.set(int(0)),
      ...repeat(j, int(1), count.get, [
        ...vectors.flatMap((offset) => [
          ...store(sum(growth.get, at.get), add(mul(stretches(offset), load(sum(integers.get, at.get), offset)), shifts(offset)), offset),
          ...store(
            sum(gradient.get, at.get),
            sub(sub(load(sum(gradient.get, at.get), offset), mul(stretches(offset), load(sum(products.get, at.get), offset))), mul(shifts(offset), splat(lift.get))),
            offset,
          ),
        ]),
        ...increase(at, stride.get), ...increase(lift, int(4)),
      ]),
    ];
  });
});

/** to += from, of `bytes` bytes. */
const add = func(3, ([to, from, bytes], declare) =>
  overRows(declare, bytes, (row, lanes, vectors) =>
    vectors.flatMap((at) => lanes.store(sum(to.get, row.get), lanes.add(lanes.load(sum(to.get, row.get), at), lanes.load(sum(from.get, row.get), at)), at))));

export const COLUMN_KERNELS = { round, move, dot, stretch, add } satisfies Record<string, Func>;

/** Where methods keep what their kernels work on. */
export const columnWorkspaces = workspacesOf(COLUMN_KERNELS);
