import type { GPU, IGPUKernelSettings, IKernelRunShortcut, Input } from "gpu.js";

/** gpu.js, as Node.js and browsers load it. */
export interface GpuJs {
  readonly GPU: typeof GPU;
  readonly Input: new (value: Float32Array, size: readonly number[]) => Input;
}

/** A matrix of float32 on the device, the result of a kernel: valid until that kernel runs again. */
export interface DeviceMatrix {
  readonly type: "WebGPUBuffer";
}

/** What gpu.js's result handles are in version 2.24.1, beyond its types. */
interface Handle extends DeviceMatrix {
  readonly constructor: new (settings: object) => Handle;
  readonly buffer: GPUBuffer;
  readonly context: unknown;
  output: number[];
  componentCount: number;
  kernel: unknown;
  toArray(): Promise<Float32Array[]>;
  delete(): void;
}

/** And what its WebGPU kernels are. */
interface WebGpuKernel {
  readonly context: { readonly device: GPUDevice };
}

export type KernelArgument = DeviceMatrix | Float32Matrix | number;

/** A matrix in memory [rows, columns], to be brought to the device. */
export interface Float32Matrix {
  readonly data: Float32Array;
  readonly rows: number;
  readonly columns: number;
}

/** Nothing: for a kernel that does not look at an argument. */
export const NOTHING: Float32Matrix = { data: new Float32Array(1), rows: 1, columns: 1 };

/**
 * A gpu.js kernel over two-dimensional threads whose result stays on the device, in one buffer of its own that the next run overwrites.
 * This is the only file that leans on gpu.js's insides.
 */
export class DeviceKernel {
  readonly #gpuJs: GpuJs;
  readonly #run: IKernelRunShortcut;
  #handle: Handle | undefined;

  /**
   * @param source a plain function of gpu.js's language, whose text is compiled
   * @param types of its arguments, in order
   */
  constructor(gpuJs: GpuJs, gpu: GPU, source: (...args: never[]) => unknown, types: Readonly<Record<string, "Input" | "Integer">>, constants: Readonly<Record<string, number>> = {}) {
    this.#gpuJs = gpuJs;
    this.#run = gpu.createKernel(source as Parameters<GPU["createKernel"]>[0], {
      pipeline: true, dynamicOutput: true, dynamicArguments: true, output: [1, 1],
      argumentTypes: types as unknown as NonNullable<IGPUKernelSettings["argumentTypes"]>,
      constants, constantTypes: Object.fromEntries(Object.keys(constants).map((name) => [name, "Integer" as const])),
    });
  }

  /** The device on which it ran. */
  get device(): GPUDevice {
    return (this.#run.kernel as unknown as WebGpuKernel).context.device;
  }

  /**
   * Queues a run of `columns` × `rows` threads; its arguments in memory may be changed as soon as this returns.
   * @returns values a thread side by side: [rows, columns · values]
   * @throws {Error} where gpu.js took another mode than WebGPU, the device is lost, or a buffer is larger than it allows
   */
  async run(columns: number, rows: number, ...args: KernelArgument[]): Promise<DeviceMatrix> {
    const { Input: InputOf } = this.#gpuJs;
    this.#run.setOutput([columns, rows]);
    const given = args.map((arg) => (typeof arg === "object" && "data" in arg ? new InputOf(arg.data, [arg.columns, arg.rows]) : arg));
    const handle = (await (this.#run as unknown as (...all: unknown[]) => Promise<unknown>)(...given)) as Handle;
    const { mode } = (this.#run.kernel as unknown as { readonly constructor: { readonly mode: string } }).constructor;
    if (mode !== "webgpu") throw new Error(`gpu.js ran a kernel in mode ${mode}, not webgpu`);
    this.#handle?.delete();
    this.#handle = handle;
    // Kernels take no arguments of several values an element: to them it is a wider matrix.
    handle.output = [columns * handle.componentCount, rows];
    handle.componentCount = 1;
    return handle;
  }

  /**
   * A matrix of zeros [rows, columns] in a buffer of its own, that `write` fills, kernels take, and `free` gives back. Only after a run.
   * @throws {Error} where it is larger than the device allows
   */
  hold(rows: number, columns: number): DeviceMatrix {
    const { context, kernel, constructor: HandleOf } = this.#handle!;
    const { maxStorageBufferBindingSize, maxBufferSize } = this.device.limits;
    const size = 4 * rows * columns;
    if (size > Math.min(maxStorageBufferBindingSize, maxBufferSize)) throw new Error(`a matrix of ${size} bytes is larger than the device allows`);
    const buffer = this.device.createBuffer({ size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC });
    return new HandleOf({ buffer, output: [columns, rows], context, kernel });
  }

  /** Fills whole rows of a matrix that `hold` made, from `row` on. */
  write(matrix: DeviceMatrix, row: number, data: Float32Array<ArrayBuffer>): void {
    const { buffer, output } = matrix as Handle;
    this.device.queue.writeBuffer(buffer, 4 * row * output[0], data);
  }

  /** Frees a matrix that `hold` made, as soon as nothing that is queued needs it. */
  free(matrix: DeviceMatrix): void {
    (matrix as Handle).delete();
  }

  /** Brings rows from … to of a matrix back, whichever kernel made it. */
  async readRows(matrix: DeviceMatrix, from: number, to: number): Promise<Float32Array<ArrayBuffer>> {
    const { buffer, output } = matrix as Handle;
    const [start, size] = [4 * from * output[0], 4 * (to - from) * output[0]];
    const staging = this.device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    try {
      const encoder = this.device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, start, staging, 0, size);
      this.device.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ);
      return new Float32Array(staging.getMappedRange().slice(0));
    } finally {
      staging.destroy();
    }
  }

  /** Brings a matrix back, whichever kernel made it; rows are views of one array. */
  async read(matrix: DeviceMatrix): Promise<Float32Array[]> {
    // The kernel that reads keeps a buffer to read through.
    (matrix as Handle).kernel = this.#run.kernel;
    return (matrix as Handle).toArray();
  }

  /** Frees its buffers. */
  destroy(): void {
    this.#handle?.delete();
    this.#run.destroy();
  }
}

/** A matrix, `columns` wide, as the upper left part of one of zeros [rows, width]. */
export function filledUp(matrix: Float32Array, columns: number, rows: number, width: number): Float32Array<ArrayBuffer> {
  const filled = new Float32Array(rows * width);
  for (let row = 0; row * columns < matrix.length; row++) filled.set(matrix.subarray(row * columns, (row + 1) * columns), row * width);
  return filled;
}
