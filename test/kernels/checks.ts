import { difference, DIFFERENCE_ARGUMENTS, plainDifference } from "#kernels/difference.js";
import { hessian, HESSIAN_ARGUMENTS, plainHessian } from "#kernels/hessian.js";
import { plainPropagate, fromSquares, propagate, PROPAGATE_ARGUMENTS, toSquares } from "#kernels/propagate.js";
import { plainRound, round, ROUND_ARGUMENTS } from "#kernels/round.js";
import { plainErrors, search, SEARCH_ARGUMENTS } from "#kernels/search.js";
import { plainUpload, upload, UPLOAD_ARGUMENTS } from "#kernels/upload.js";
import { DeviceKernel, type Float32Matrix, type GpuJs } from "#src/engine/gpu/device.js";

/** What a kernel left, beside what its reference says: both in one row of values. */
export interface Check {
  readonly name: string;
  readonly actual: readonly number[];
  readonly expected: readonly number[];
}

/** Runs every kernel on small and awkward shapes. It runs in browsers as well: nothing here is of Node.js. */
export async function checkKernels(gpuJs: GpuJs): Promise<Check[]> {
  const gpu = new gpuJs.GPU({ mode: "webgpu" });
  const checks: Check[] = [];

  const brings = new DeviceKernel(gpuJs, gpu, upload, UPLOAD_ARGUMENTS);
  for (const [rows, columns, toRows, toColumns] of [[1, 1, 1, 1], [1, 3, 4, 4], [5, 3, 8, 4], [7, 172, 8, 172]]) {
    const x = matrix(rows, columns);
    const left = await brings.read(await brings.run(toColumns, toRows, x, rows, columns));
    checks.push({ name: `upload ${rows} × ${columns} to ${toRows} × ${toColumns}`, actual: flat(left), expected: flat(plainUpload(x.data, rows, columns, toRows, toColumns)) });
  }

  const departs = new DeviceKernel(gpuJs, gpu, difference, DIFFERENCE_ARGUMENTS);
  const [x, original] = [matrix(5, 6), matrix(5, 6, 1.001)];
  checks.push({ name: "difference", actual: flat(await departs.read(await departs.run(6, 5, original, x))), expected: flat(plainDifference(rowsOf(original), rowsOf(x))) });

  for (const [rows, width, size] of [[1, 2, 1], [3, 4, 1], [16, 172, 1], [2, 576, 1], [8, 20, 1e-15], [8, 20, 1e15]]) {
    const adds = new DeviceKernel(gpuJs, gpu, hessian, HESSIAN_ARGUMENTS, { rows });
    const [a, b] = [matrix(rows, width, size), matrix(rows, width, size * 2)];
    for (const values of [a.data, b.data]) values.forEach((_, i) => { if (i % width === 1) values[i] = 0; });
    // The right lower quarter, as a tile that begins in the middle.
    const [start, count] = [width - 2 * Math.ceil(width / 4), 2 * Math.ceil(width / 4)];
    const before = matrix(count / 2, 2 * count, size * size);
    const threads = count / 2;
    const squares = flat(await adds.read(await adds.run(threads, threads, a, b, before, start, start, 0)));
    checks.push({
      name: `hessian of ${rows} rows, ${width} wide, of size ${size}`,
      actual: unsquared(squares, count),
      expected: [...plainHessian(rowsOf(a), rowsOf(b), Float64Array.from(unsquared([...before.data], count)), start, start, count)],
    });
    const half = unsquared(flat(await adds.read(await adds.run(threads, threads, a, a, zeros(before), start, start, 1))), count);
    const whole = plainHessian(rowsOf(a), rowsOf(a), new Float64Array(count * count), start, start, count);
    checks.push({
      name: `symmetric hessian of ${rows} rows, ${width} wide, of size ${size}`,
      actual: half,
      expected: [...whole].map((value, at) => (Math.floor((at % count) / 2) < Math.floor(at / count / 2) ? 0 : value)),
    });
  }
  checks.push(...(await checkPropagate(gpuJs, gpu)), ...(await checkRound(gpuJs, gpu)), ...(await checkSearch(gpuJs, gpu)));
  return checks;
}

async function checkPropagate(gpuJs: GpuJs, gpu: InstanceType<GpuJs["GPU"]>): Promise<Check[]> {
  const checks: Check[] = [];
  for (const [block, count, rows, outputs, first, from, size] of [[1, 1, 1, 1, 0, 0, 1], [4, 3, 7, 3, 1, 4, 1], [16, 16, 172, 5, 100, 117, 1], [128, 44, 172, 64, 128, 0, 1], [8, 8, 20, 6, 2, 10, 1e-15], [8, 8, 20, 6, 2, 10, 1e15]]) {
    const updates = new DeviceKernel(gpuJs, gpu, propagate, PROPAGATE_ARGUMENTS, { block });
    const half = Math.ceil(outputs / 2);
    const [rest, r] = [matrix(rows, outputs, size * size), matrix(first + block, rows + (rows % 2), size)];
    const e: Float32Matrix = { rows: block, columns: 2 * half, data: new Float32Array(block * 2 * half) };
    const errors = matrix(count, outputs, size);
    for (let k = 0; k < count; k++) e.data.set(errors.data.subarray(k * outputs, (k + 1) * outputs), k * 2 * half);
    const squares = { rows: Math.ceil(rows / 2), columns: 4 * half, data: toSquares(rest.data, rows, outputs) };
    const left = Float32Array.from(flat(await updates.read(await updates.run(half, squares.rows, squares, r, e, first, from))));
    const kept = new Float32Array((rows - from) * outputs);
    fromSquares(left.subarray((from >> 1) * 4 * half), from, rows, outputs, kept);
    checks.push({
      name: `propagate ${count} errors to rows from ${from} of ${rows}, ${outputs} outputs, of size ${size}`,
      actual: [...kept], expected: flat(plainPropagate(rowsOf(rest), rowsOf(r), rowsOf(errors), first).slice(from)),
    });
  }
  return checks;
}

async function checkRound(gpuJs: GpuJs, gpu: InstanceType<GpuJs["GPU"]>): Promise<Check[]> {
  const rounds = new DeviceKernel(gpuJs, gpu, round, ROUND_ARGUMENTS);
  const checks: Check[] = [];
  // Scales of powers of two, so that all of these weights of halves are ties, of which half lie beyond the grid; negative ones, offsets, and other scales.
  for (const [columns, outputs, span] of [[1, 1, 15], [3, 5, 15], [16, 172, 3], [2, 576, 255]]) {
    for (const ties of [true, false]) {
      const w = matrix(columns, outputs);
      w.data.forEach((value, i) => { w.data[i] = ties ? Math.round(value * span * 2) / 2 : value * span; });
      const grid = (value: (x: number) => number): Float32Array => Float32Array.from({ length: outputs }, (_, x) => value(x));
      const scales = grid((x) => (x % 3 === 2 ? -1 : 1) * (ties ? 2 ** ((x % 5) - 2) : 0.3 + x / outputs));
      const grids = [scales.map((scale) => 1 / scale), scales, grid((x) => -Math.floor((span + 1) / 2) + (x % 2)), grid((x) => (x % 4 === 3 ? -1 : 0))];
      const data = Float32Array.from(grids.flatMap((row) => [...row]));
      checks.push({
        name: `round ${columns} columns of ${outputs} outputs to 0 … ${span}${ties ? ", ties" : ""}`,
        actual: flat(await rounds.read(await rounds.run(outputs, columns, w, { rows: 4, columns: outputs, data }, span))),
        expected: flat(plainRound(rowsOf(w), grids, span)),
      });
    }
  }
  return checks;
}

/** What the grids that it chose leave, beside the least that any leaves. */
async function checkSearch(gpuJs: GpuJs, gpu: InstanceType<GpuJs["GPU"]>): Promise<Check[]> {
  const checks: Check[] = [];
  for (const [groups, size, outputs, candidates, span] of [[1, 3, 1, 4, 15], [2, 16, 3, 60, 15], [3, 43, 5, 8, 3]]) {
    const chooses = new DeviceKernel(gpuJs, gpu, search, SEARCH_ARGUMENTS, { size, candidates });
    const w = matrix(groups * size, outputs);
    const h = Float32Array.from({ length: groups * size }, (_, j) => 1 + Math.cos(j * j));
    const of = (value: (c: number) => number): Float32Matrix =>
      ({ rows: groups * candidates, columns: outputs, data: Float32Array.from({ length: groups * candidates * outputs }, (_, i) => value(Math.floor(i / outputs) % candidates)) });
    const scales = of((c) => ((c % 2 === 0 ? 1 : -1) * 2.4 * (1 - c / candidates / 2)) / span);
    const lows = of((c) => -Math.floor(span / 2) - (c % 3));
    const offsets = of((c) => (c % 4 === 3 ? -0.1 : 0));
    const inverses = { ...scales, data: scales.data.map((scale) => 1 / scale) };
    const left = await chooses.read(await chooses.run(outputs, groups, w, { rows: 1, columns: h.length, data: h }, scales, inverses, lows, offsets, span));
    const expected: number[] = [];
    const actual: number[] = [];
    for (let k = 0; k < groups; k++) {
      const group = (m: Float32Matrix, length: number): Float32Array[] => rowsOf(m).slice(k * length, (k + 1) * length);
      for (let x = 0; x < outputs; x++) {
        const errors = plainErrors(group(w, size), h.subarray(k * size), group(scales, candidates), group(lows, candidates), group(offsets, candidates), span, x);
        const least = Math.min(...errors);
        expected.push(least, least);
        actual.push(errors[left[k][2 * x]], left[k][2 * x + 1]);
      }
    }
    checks.push({ name: `search ${candidates} grids of ${groups} groups of ${size}, ${outputs} outputs`, actual, expected });
  }
  return checks;
}

/** The largest difference, as a share of the largest value expected; infinite where the lengths differ or anything is NaN. */
export function errorOf({ actual, expected }: Check): number {
  if (actual.length !== expected.length) return Infinity;
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const off = actual.reduce((most, value, i) => (Number.isNaN(value) ? Infinity : Math.max(most, Math.abs(value - expected[i]))), 0);
  return largest === 0 ? off : off / largest;
}

/** Values that look like none, between −size and size. */
function matrix(rows: number, columns: number, size = 1): Float32Matrix {
  return { rows, columns, data: Float32Array.from({ length: rows * columns }, (_, i) => size * Math.sin(i * i + 1)) };
}

const zeros = ({ rows, columns }: Float32Matrix): Float32Matrix => ({ rows, columns, data: new Float32Array(rows * columns) });
const rowsOf = ({ rows, columns, data }: Float32Matrix): Float32Array[] => Array.from({ length: rows }, (_, y) => data.slice(y * columns, (y + 1) * columns));
const flat = (rows: readonly (Float32Array | Float64Array)[]): number[] => rows.flatMap((row) => [...row]);

/** Squares of 2 × 2, as `hessian` leaves them, as a matrix [width, width]. */
function unsquared(squares: readonly number[], width: number): number[] {
  return Array.from({ length: width * width }, (_, at) => {
    const [i, j] = [Math.floor(at / width), at % width];
    return squares[((i >> 1) * (width / 2) + (j >> 1)) * 4 + 2 * (i & 1) + (j & 1)];
  });
}
