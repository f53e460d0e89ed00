import { difference, DIFFERENCE_ARGUMENTS, plainDifference } from "#kernels/difference.js";
import { hessian, HESSIAN_ARGUMENTS, plainHessian } from "#kernels/hessian.js";
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
const flat = (rows: readonly Float32Array[]): number[] => rows.flatMap((row) => [...row]);

/** Squares of 2 × 2, as `hessian` leaves them, as a matrix [width, width]. */
function unsquared(squares: readonly number[], width: number): number[] {
  return Array.from({ length: width * width }, (_, at) => {
    const [i, j] = [Math.floor(at / width), at % width];
    return squares[((i >> 1) * (width / 2) + (j >> 1)) * 4 + 2 * (i & 1) + (j & 1)];
  });
}
