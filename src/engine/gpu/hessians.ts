import { difference, DIFFERENCE_ARGUMENTS } from "#kernels/difference.js";
import { hessian, HESSIAN_ARGUMENTS } from "#kernels/hessian.js";
import { upload, UPLOAD_ARGUMENTS } from "#kernels/upload.js";
import { DeviceKernel, NOTHING, type DeviceMatrix, type GpuJs } from "./device.js";

/** How the work is cut. */
export interface Cut {
  /** Rows of X that a kernel takes in one go: enough that reading and writing the sum beside them costs nothing, few enough to sum up in float32. */
  readonly rows: number;
  /** The widest tile, even: 17 MB, which every device allows; and a run over it is short enough for systems that reset a device which is busy for seconds. */
  readonly widest: number;
}

export const CUT: Cut = { rows: 512, widest: 2048 };

/** A square of a sum, and the kernel whose buffer holds it. */
interface Tile {
  readonly row: number;
  readonly col: number;
  sum: DeviceMatrix;
  kernel: DeviceKernel;
}

interface Accumulator {
  readonly n: number;
  readonly width: number;
  readonly hessian: Tile[];
  readonly cross: Tile[] | undefined;
}

export interface Sums {
  readonly sum: Float32Array<ArrayBuffer>;
  readonly cross?: Float32Array<ArrayBuffer>;
}

/**
 * Hessians XᵀX of one device, accumulated there, and read back once. The upper half alone is computed, in tiles, since a wide layer's is larger than
 * a buffer may be. A kernel cannot write where it reads: each tile's new sum goes into the buffer that the tile before it has just left, so one
 * spare buffer serves all of them.
 */
export class DeviceHessians {
  readonly #gpuJs: GpuJs;
  readonly #gpu: InstanceType<GpuJs["GPU"]>;
  readonly #upload: DeviceKernel;
  readonly #uploadOriginal: DeviceKernel;
  readonly #difference: DeviceKernel;
  readonly #spare: DeviceKernel[] = [];
  readonly #accumulators = new Map<number, Accumulator>();
  /** When what was queued before the last `add` is done. */
  #queued: Promise<unknown> = Promise.resolve();
  #trouble: string | undefined;

  private constructor(gpuJs: GpuJs, private readonly cut: Cut) {
    this.#gpuJs = gpuJs;
    this.#gpu = new gpuJs.GPU({ mode: "webgpu" });
    this.#upload = new DeviceKernel(gpuJs, this.#gpu, upload, UPLOAD_ARGUMENTS);
    this.#uploadOriginal = new DeviceKernel(gpuJs, this.#gpu, upload, UPLOAD_ARGUMENTS);
    this.#difference = new DeviceKernel(gpuJs, this.#gpu, difference, DIFFERENCE_ARGUMENTS);
  }

  /** @throws {Error} where gpu.js finds no device or takes another mode */
  static async open(gpuJs: GpuJs, cut = CUT): Promise<DeviceHessians> {
    const made = new DeviceHessians(gpuJs, cut);
    await made.#upload.run(1, 1, NOTHING, 1, 1);
    // gpu.js only prints them.
    made.#upload.device.onuncapturederror = ({ error }) => (made.#trouble ??= error.message);
    return made;
  }

  get device(): GPUDevice {
    return this.#upload.device;
  }

  /** Makes a zero accumulator of XᵀX; with `cross`, of (X⁰ − X)ᵀX too. Throws where the device's memory does not hold it. */
  async create(id: number, n: number, cross: boolean): Promise<void> {
    const width = evenly(n, this.cut.widest);
    const starts = Array.from({ length: Math.ceil(n / width) }, (_, i) => i * width);
    const places = (upper: boolean) => starts.flatMap((row) => starts.filter((col) => !upper || col >= row).map((col) => ({ row, col })));
    this.device.pushErrorScope("out-of-memory");
    const zero = async ({ row, col }: { row: number; col: number }): Promise<Tile> => {
      const kernel = this.#take();
      return { row, col, kernel, sum: await cleared(kernel, width) };
    };
    const accumulator: Accumulator = { n, width, hessian: [], cross: cross ? [] : undefined };
    for (const place of places(true)) accumulator.hessian.push(await zero(place));
    for (const place of cross ? places(false) : []) accumulator.cross!.push(await zero(place));
    if (this.#spare.length === 0) this.#spare.push((await zero({ row: 0, col: 0 })).kernel);
    const lacking = await this.device.popErrorScope();
    if (lacking !== null) {
      const kernels = [...accumulator.hessian, ...(accumulator.cross ?? [])].map(({ kernel }) => kernel);
      for (const kernel of [...kernels, ...this.#spare.splice(0)]) kernel.destroy();
      throw new Error(`the device's memory does not hold the Hessian of ${n} inputs: ${lacking.message}`);
    }
    this.#accumulators.set(id, accumulator);
  }

  /** Queues H += XᵀX for x [rows, n] and, with X⁰, C += (X⁰ − X)ᵀX; both may be changed once this returns. What was queued before is waited for. */
  async add(id: number, rows: number, x: Float32Array, original?: Float32Array): Promise<void> {
    const accumulator = this.#accumulators.get(id)!;
    const { n, hessian: tiles, cross } = accumulator;
    const queued = this.#queued;
    const atOnce = this.cut.rows;
    for (let row = 0; row < rows; row += atOnce) {
      const some = Math.min(atOnce, rows - row);
      const bring = (kernel: DeviceKernel, data: Float32Array) =>
        kernel.run(even(n), atOnce, { data: data.subarray(row * n, (row + some) * n), rows: some, columns: n }, some, n);
      const onDevice = await bring(this.#upload, x);
      for (const tile of tiles) await this.#update(tile, accumulator, onDevice, onDevice, 1);
      if (cross !== undefined && original !== undefined) {
        const departure = await this.#difference.run(even(n), atOnce, await bring(this.#uploadOriginal, original), onDevice);
        for (const tile of cross) await this.#update(tile, accumulator, departure, onDevice, 0);
      }
    }
    this.#queued = this.device.queue.onSubmittedWorkDone();
    await queued;
    this.check();
  }

  /** Waits for all that was queued. */
  async settle(): Promise<void> {
    await this.#queued;
    this.check();
  }

  /** The sums, whole [n, n], H symmetric; frees the accumulator. Throws where the device failed, or left NaN. */
  async finish(id: number): Promise<Sums> {
    const { n, width, hessian: tiles, cross } = this.#accumulators.get(id)!;
    this.#accumulators.delete(id);
    try {
      const sum = await this.#read(tiles, n, width);
      mirror(sum, n);
      return cross === undefined ? { sum } : { sum, cross: await this.#read(cross, n, width) };
    } finally {
      this.#spare.push(...[...tiles, ...(cross ?? [])].map(({ kernel }) => kernel));
    }
  }

  /** Ends the device, and frees all that is on it. */
  async destroy(): Promise<void> {
    this.device.destroy();
    // Dawn ends the process where a thread ends that still waits for it.
    await this.#queued.catch(() => undefined);
  }

  async #update(tile: Tile, { n, width }: Accumulator, a: DeviceMatrix, b: DeviceMatrix, symmetric: number): Promise<void> {
    const kernel = this.#take();
    const threads = (start: number): number => even(Math.min(width, n - start)) / 2;
    const sum = await kernel.run(threads(tile.col), threads(tile.row), a, b, tile.sum, tile.row, tile.col, symmetric);
    this.#spare.push(tile.kernel);
    Object.assign(tile, { kernel, sum });
  }

  async #read(tiles: readonly Tile[], n: number, width: number): Promise<Float32Array<ArrayBuffer>> {
    const matrix = new Float32Array(n * n);
    for (const { row, col, sum } of tiles) {
      const squares = await this.#upload.read(sum);
      this.check();
      const rows = Math.min(width, n - row);
      const cols = Math.min(width, n - col);
      for (let i = 0; i < rows; i++) {
        const from = squares[i >> 1];
        const at = (row + i) * n + col;
        for (let j = 0; j < cols; j++) matrix[at + j] = from[4 * (j >> 1) + 2 * (i & 1) + (j & 1)];
      }
    }
    // A kernel went wrong, or what it was given was: the CPU will tell which.
    if (matrix.some((value) => !Number.isFinite(value))) throw new Error("the device left NaN or infinity");
    return matrix;
  }

  #take(): DeviceKernel {
    const spare = this.#spare.pop();
    if (spare !== undefined) return spare;
    return new DeviceKernel(this.#gpuJs, this.#gpu, hessian, HESSIAN_ARGUMENTS, { rows: this.cut.rows });
  }

  /** Throws what went wrong on the device. */
  check(): void {
    if (this.#trouble !== undefined) throw new Error(this.#trouble);
  }
}

const even = (n: number): number => n + (n % 2);

/** The width of tiles: as few as there may be, all of one width but the last. */
function evenly(n: number, widest: number): number {
  return even(Math.ceil(n / Math.ceil(n / widest)));
}

/** Makes a kernel's buffer zero, and as large as a tile: every square of a tile below the diagonal is. */
function cleared(kernel: DeviceKernel, width: number): Promise<DeviceMatrix> {
  return kernel.run(width / 2, width / 2, NOTHING, NOTHING, NOTHING, 2 * width, 0, 1);
}

/** Copies the upper half into the lower. */
function mirror(matrix: Float32Array, n: number): void {
  for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) matrix[j * n + i] = matrix[i * n + j];
}
