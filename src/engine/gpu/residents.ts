import { propagate, PROPAGATE_ARGUMENTS } from "#kernels/propagate.js";
import { partOf, type Coefficients } from "../resident.js";
import { transferring, type Transferring } from "../transferring.js";
import type { Methods } from "../threads/serve.js";
import { DeviceKernel, filledUp, NOTHING, type DeviceMatrix, type GpuJs } from "./device.js";

/** Rows of errors that are subtracted in one go: as many as methods leave between two updates. */
export const BLOCK = 128;

/** Coefficients on the device, and how many residents use them. */
interface Held {
  readonly matrix: DeviceMatrix;
  users: number;
}

interface OnDevice {
  readonly key: string;
  readonly r: DeviceMatrix;
  /** Of c in squares: pairs of rows, and twice as many columns as are paired. */
  readonly pairs: number;
  readonly width: number;
  c: DeviceMatrix;
  /** The kernel whose buffer c is: none at first, when the buffer is c's own. */
  kernel: DeviceKernel | undefined;
}

/**
 * Matrices of one device from which products are subtracted: see `Resident`. The coefficients lie there as long as anybody uses them, once for all
 * slabs of a linear. So its memory holds one Hessian, and of each slab at work at most three times its weights.
 */
export class DeviceResidents {
  readonly #gpu: InstanceType<GpuJs["GPU"]>;
  /** It only makes matrices, and reads them. */
  readonly #maker: DeviceKernel;
  readonly #spare: DeviceKernel[] = [];
  readonly #held = new Map<string, Held>();
  /** Error scopes are one stack of the device's: residents are made one after the other. */
  #making: Promise<unknown> = Promise.resolve();

  private constructor(private readonly gpuJs: GpuJs, private readonly check: () => void) {
    this.#gpu = new gpuJs.GPU({ mode: "webgpu" });
    this.#maker = this.#take();
  }

  /** @param check throws what went wrong on the device since */
  static async open(gpuJs: GpuJs, check: () => void): Promise<DeviceResidents> {
    const made = new DeviceResidents(gpuJs, check);
    await made.#maker.run(1, 1, NOTHING, NOTHING, NOTHING, 0, 2);
    return made;
  }

  /** What a thread is served that has residents of its own, numbered by it: methods of `Resident`. */
  methods(): Methods {
    const all = new Map<number, OnDevice>();
    return {
      create: async (id: number, r: Coefficients, squares: Float32Array<ArrayBuffer>): Promise<void> => {
        const making = this.#making.then(() => this.#create(r, squares));
        this.#making = making.catch(() => undefined);
        all.set(id, await making);
      },
      subtract: (id: number, first: number, e: Float32Array, from: number) => this.#subtract(all.get(id)!, first, e, from),
      fetch: async (id: number, from: number, to: number): Promise<Transferring<Float32Array>> => {
        const squares = await this.#maker.readRows(all.get(id)!.c, from >> 1, Math.ceil(to / 2));
        this.check();
        return transferring(squares, [squares.buffer]);
      },
      release: (id: number) => {
        this.#release(all.get(id)!);
        all.delete(id);
      },
    };
  }

  async #create(r: Coefficients, squares: Float32Array<ArrayBuffer>): Promise<OnDevice> {
    const { device } = this.#maker;
    const pairs = Math.ceil(r.n / 2);
    const columns = squares.length / pairs;
    device.pushErrorScope("out-of-memory");
    const c = this.#maker.hold(pairs, columns);
    this.#maker.write(c, 0, squares);
    const held = this.#held.get(r.key) ?? { matrix: this.#bring(r), users: 0 };
    // At once: while this waits, others may be done with it.
    held.users += 1;
    this.#held.set(r.key, held);
    const lacking = await device.popErrorScope();
    // Whoever is told so gives the device up: nothing of it need be mended.
    if (lacking !== null) throw new Error(`the device's memory does not hold a matrix of ${r.n} rows and its coefficients: ${lacking.message}`);
    return { key: r.key, r: held.matrix, pairs, width: columns / 2, c, kernel: undefined };
  }

  /** Block by block, since they may lie in another order, and as much as they are is not to be copied at once; with a block of zeros behind them. */
  #bring(r: Coefficients): DeviceMatrix {
    const { n } = r;
    const width = n + (n % 2);
    const matrix = this.#maker.hold(n + BLOCK, width);
    for (let start = 0; start < n; start += BLOCK) {
      const end = Math.min(start + BLOCK, n);
      this.#maker.write(matrix, start, filledUp(partOf(r, start, end, 0, n), n, end - start, width));
    }
    return matrix;
  }

  async #subtract(resident: OnDevice, first: number, e: Float32Array, from: number): Promise<void> {
    const { c, r, pairs, width, kernel: before } = resident;
    const rows = e.length / width;
    const kernel = this.#take();
    resident.c = await kernel.run(width / 2, pairs, c, r, { data: e, rows, columns: width }, first, from);
    resident.kernel = kernel;
    // What it read serves the next one.
    if (before === undefined) this.#maker.free(c);
    else this.#spare.push(before);
  }

  #release({ key, c, kernel }: OnDevice): void {
    const held = this.#held.get(key)!;
    held.users -= 1;
    if (held.users === 0) {
      this.#held.delete(key);
      this.#maker.free(held.matrix);
    }
    if (kernel === undefined) this.#maker.free(c);
    else this.#spare.push(kernel);
  }

  #take(): DeviceKernel {
    return this.#spare.pop() ?? new DeviceKernel(this.gpuJs, this.#gpu, propagate, PROPAGATE_ARGUMENTS, { block: BLOCK });
  }
}
