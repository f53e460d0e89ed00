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
