import { difference, DIFFERENCE_ARGUMENTS } from "#kernels/difference.js";
import { hessian, HESSIAN_ARGUMENTS } from "#kernels/hessian.js";
import { propagate, PROPAGATE_ARGUMENTS } from "#kernels/propagate.js";
import { round, ROUND_ARGUMENTS } from "#kernels/round.js";
import { search, SEARCH_ARGUMENTS } from "#kernels/search.js";
import { upload, UPLOAD_ARGUMENTS } from "#kernels/upload.js";
import { secondsARun } from "../seconds-a-run.js";
import { DeviceKernel, NOTHING, type DeviceMatrix, type Float32Matrix, type GpuJs } from "./device.js";

/** A kernel with its operands ready, and what one run of it does. */
export interface KernelRun {
  readonly name: string;
  readonly run: () => Promise<unknown>;
  /** Of the results that count; 0 where it only moves. */
  readonly multiplyAdds: number;
  /** Read from and written to the device's memory, each operand once. */
  readonly bytes: number;
  /** In the inner loop, for each multiply-add: what bounds a kernel whose threads share no memory. */
  readonly loads?: number;
}

/** How fast a kernel is. */
export interface KernelSpeed {
  readonly name: string;
  /** Multiplications and additions a second. */
  readonly flops: number;
  /** Bytes a second. */
  readonly bytes: number;
}

export interface KernelSizes {
  /** Inputs, and outputs, of a linear; even. */
  readonly n: number;
  /** Tokens of a Hessian update. */
  readonly rows: number;
}

/** Columns of a block, and of a group. */
const BLOCK = 128;
/** As many grids as a search at 4 bits tries. */
const CANDIDATES = 60;
/** Of an error in `search`: the code, the difference, its square, its weight. */
const A_SQUARE = 4;
const FLOAT = 4;

/** Every kernel in turn, each to be run before the next is asked for. */
export async function* kernelRuns(gpuJs: GpuJs, { n, rows }: KernelSizes): AsyncGenerator<KernelRun & { readonly device: GPUDevice }> {
  const gpu = new gpuJs.GPU({ mode: "webgpu" });
  const kernel = (...args: [(...all: never[]) => unknown, Readonly<Record<string, "Input" | "Integer">>, Record<string, number>?]): DeviceKernel => new DeviceKernel(gpuJs, gpu, ...args);
  const x = matrix(rows, n);
  // What a kernel leaves is gone as it runs again: operands come from kernels of their own.
  const [bringsX, bringsR, bringsE, brings] = Array.from({ length: 4 }, () => kernel(upload, UPLOAD_ARGUMENTS));
  const onDevice = await bringsX.run(n, rows, x, rows, n);
  const { device } = bringsX;
  yield { device, name: "upload", run: () => brings.run(n, rows, x, rows, n), multiplyAdds: 0, bytes: FLOAT * rows * n };

  const departs = kernel(difference, DIFFERENCE_ARGUMENTS);
  yield { device, name: "difference", run: () => departs.run(n, rows, onDevice, onDevice), multiplyAdds: 0, bytes: 3 * FLOAT * rows * n };

  for (const symmetric of [1, 0]) {
    const shares = symmetric + 1;
    const name = symmetric === 1 ? "hessian" : "hessian, both halves";
    const run = await inTurn([0, 1].map(() => kernel(hessian, HESSIAN_ARGUMENTS, { rows })), (made) => made.run(n / 2, n / 2, NOTHING, NOTHING, NOTHING, 2 * n, 0, 1),
      (made, sum) => made.run(n / 2, n / 2, onDevice, onDevice, sum, 0, 0, symmetric));
    yield { device, name, run, multiplyAdds: (rows * n * n) / shares, bytes: FLOAT * (rows * n + (2 * n * n) / shares), loads: 1 };
  }

  const block = matrix(BLOCK, n);
  const [r, e] = [await bringsR.run(n, BLOCK, block, BLOCK, n), await bringsE.run(n, BLOCK, block, BLOCK, n)];
  const propagates = await inTurn([0, 1].map(() => kernel(propagate, PROPAGATE_ARGUMENTS, { block: BLOCK })), (made) => made.run(n / 2, n / 2, NOTHING, NOTHING, NOTHING, 0, n),
    (made, rest) => made.run(n / 2, n / 2, rest, r, e, 0, 0));
  yield { device, name: "propagate", run: propagates, multiplyAdds: BLOCK * n * n, bytes: FLOAT * (2 * n * n + 2 * BLOCK * n), loads: 1 };

  // What these read crosses over each time, as it would.
  const grids = { rows: 4, columns: n, data: Float32Array.from({ length: 4 * n }, (_, i) => [8, 1 / 8, -8, 0][Math.floor(i / n)]) };
  const rounds = kernel(round, ROUND_ARGUMENTS);
  yield { device, name: "round", run: () => rounds.run(n, BLOCK, e, grids, 15), multiplyAdds: 2 * BLOCK * n, bytes: FLOAT * 3 * BLOCK * n };

  const searches = kernel(search, SEARCH_ARGUMENTS, { size: BLOCK, candidates: CANDIDATES });
  const candidates = (value: number): Float32Matrix => ({ rows: CANDIDATES, columns: n, data: new Float32Array(CANDIDATES * n).fill(value) });
  const proposed = [1 / 8, 8, -8, 0].map(candidates);
  const h = { rows: 1, columns: BLOCK, data: new Float32Array(BLOCK).fill(1) };
  yield {
    device, name: "search", run: () => searches.run(n, 1, e, h, ...proposed, 15),
    multiplyAdds: A_SQUARE * CANDIDATES * BLOCK * n, bytes: FLOAT * (BLOCK * n + 4 * CANDIDATES * n), loads: 2 / (4 * A_SQUARE),
  };
  for (const held of [bringsX, brings, departs, bringsR, bringsE, rounds, searches]) held.destroy();
}

/** Measures every kernel, for about `seconds` each. */
export async function kernelSpeeds(gpuJs: GpuJs, sizes: KernelSizes, seconds: number): Promise<KernelSpeed[]> {
  const speeds: KernelSpeed[] = [];
  for await (const { device, name, run, multiplyAdds, bytes } of kernelRuns(gpuJs, sizes)) {
    const each = await secondsARun(run, seconds, () => device.queue.onSubmittedWorkDone());
    speeds.push({ name, flops: (2 * multiplyAdds) / each, bytes: bytes / each });
  }
  return speeds;
}

/** Runs two kernels by turns, each on what the other has left. */
async function inTurn(kernels: readonly DeviceKernel[], begin: (kernel: DeviceKernel) => Promise<DeviceMatrix>, next: (kernel: DeviceKernel, left: DeviceMatrix) => Promise<DeviceMatrix>): Promise<() => Promise<unknown>> {
  let left = await begin(kernels[0]);
  let turn = 1;
  return async () => {
    left = await next(kernels[turn], left);
    turn = 1 - turn;
  };
}

const matrix = (rows: number, columns: number): Float32Matrix => ({ rows, columns, data: Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i)) });
