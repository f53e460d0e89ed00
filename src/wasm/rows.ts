import { F32, F32X4, int, repeat, sum, type Code, type Declare, type Lanes, type Local } from "./code.js";

/**
 * Runs `pass` over all rows, which are neighbours in a column of `stride` bytes, as many at a time as there are: four vectors of four floats, one, or single floats.
 * `row` is how far in bytes the first of them stands in its column, and `vectors` how far the vectors stand behind it.
 */
export function overRows(declare: Declare, stride: Local, pass: (row: Local, lanes: Lanes, vectors: readonly number[]) => Code): Code {
  const row = declare();
  const kinds = [[F32X4, 4], [F32X4, 1], [F32, 1]] as const;
  return [
    ...row.set(int(0)),
    ...kinds.flatMap(([lanes, count]) => repeat(row, int(lanes.bytes * count), stride.get, pass(row, lanes, Array.from({ length: count }, (_, i) => i * lanes.bytes)))),
  ];
}

/** Adds to an address. */
export const increase = (local: Local, by: Code): Code => local.set(sum(local.get, by));
