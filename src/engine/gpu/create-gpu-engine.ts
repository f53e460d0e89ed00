import { MessageChannel } from "node:worker_threads";
import { InputError } from "../../errors.js";
import { checked, checkedPair } from "../checked.js";
import type { Activations, CrossHessianAccumulator, Engine, GatheredHessian, HessianAccumulator } from "../engine.js";
import { DeviceLost } from "../device-lost.js";
import { Pool } from "../onnx/pool.js";
import { Thread } from "../threads/thread.js";
import type { Adapter } from "./adapter.js";
import type { Cut, Sums } from "./hessians.js";
import type { KernelSizes, KernelSpeed } from "./kernel-runs.js";
import type { Added } from "./worker.js";

/** How descriptions of these engines go on behind that of the engine beneath. */
const HESSIANS_BY = "; Hessians by gpu.js on ";

/** Whether this describes an engine that gathers Hessians on a GPU. */
export const describesGpu = (description: string): boolean => description.includes(HESSIANS_BY);

/** For measuring kernels: as of a small layer or, where the CPU plays the GPU, of what it has done in an instant. */
const MEASURED: KernelSizes = { n: 2048, rows: 512 };
const SMALL: KernelSizes = { n: 64, rows: 128 };
const SECONDS = 0.2;

export interface GpuEngineOptions {
  /** Throw `InputError` after a fault of the GPU, rather than let the engine do its work. */
  readonly strict?: boolean;
  /** How the GPU's work is cut, if not as suits most. */
  readonly cut?: Cut;
}

/** An engine whose Hessians are gathered on a GPU. */
export interface GpuEngine extends Engine {
  readonly adapter: Adapter;
  /** Waits until the GPU has done all that it was given. */
  settle(): Promise<void>;
  /** Measures every kernel by itself. */
  kernelSpeeds(): Promise<readonly KernelSpeed[]>;
  /** Gives the GPU back; the engine beneath stays open. */
  release(): Promise<void>;
}

/**
 * Puts a GPU beside an engine: Hessians are gathered there, by gpu.js on WebGPU, while the engine goes on with the next batch, and what quantizing one block of
 * columns does to all others is computed there; all else is the engine's. Inputs cross to the GPU once, sums come back once. After a fault of the GPU `DeviceLost` is thrown, and the engine does its work from then on.
 * @throws {InputError} where there is no GPU, saying what is missing; `engine` is left open
 */
export async function createGpuEngine(engine: Engine, { strict = false, cut }: GpuEngineOptions = {}): Promise<GpuEngine> {
  const thread = new Thread(new URL("./worker.js", import.meta.url));
  const adapter = await thread.request<Adapter>("open", [cut]).catch(async (error: unknown) => {
    await thread.close();
    throw error;
  });
  // Its threads quantize, and each has matrices of its own on the GPU.
  const pool = new Pool(engine.parallelism, new URL("./call-worker.js", import.meta.url), async (worker) => {
    const { port1, port2 } = new MessageChannel();
    await thread.request("connect", [port1], [port1]);
    await worker.request("connect", [port2, adapter.name], [port2]);
  });
  let nextId = 0;
  let failed = false;
  let closed = false;

  const lost = (why: string): Error => {
    if (closed) return new Error("The engine was closed.");
    failed = true;
    const error = new DeviceLost(adapter.name, why);
    return strict ? new InputError(`${error.message}. Without --no-fallback the CPU would go on in its place`) : error;
  };
  const ask = <R>(method: string, args: readonly unknown[]): Promise<R> =>
    thread.request<R>(method, args).catch((error: unknown) => {
      throw lost(error instanceof Error ? error.message : String(error));
    });

  /** Gathers x, or x and the original's. */
  const gather = async (n: number, cross: boolean) => {
    const id = nextId++;
    let rows = 0;
    let trouble: string | undefined;
    await ask("hessian", [id, n, cross]);
    return {
      async add(given: readonly Activations[]): Promise<readonly Activations[]> {
        // Whoever adds wants the memory back, and is told at the end.
        if (trouble !== undefined) return given;
        rows += given[0].batch * given[0].tokens;
        const added = await thread.request<Added>("add", [id, given], given.map(({ data }) => data.buffer));
        trouble = added.trouble;
        return added.given;
      },
      async finish(): Promise<Sums & Pick<GatheredHessian, "rows" | "device">> {
        if (trouble !== undefined) throw lost(trouble);
        return { ...(await ask<Sums>("finish", [id])), rows, device: adapter.name };
      },
    };
  };

  const release = async (): Promise<void> => {
    await pool.close();
    await thread.request("destroy", []).catch(() => undefined);
    await thread.close();
  };

  return {
    ...engine,
    release,
    description: `${engine.description}${HESSIANS_BY}${adapter.name}`,
    adapter,
    deviceMemory: async () => (await engine.deviceMemory()) + (await thread.request<number>("memory", [])),
    settle: () => ask("settle", []),
    kernelSpeeds: () => ask("kernelSpeeds", [adapter.software ? SMALL : MEASURED, SECONDS]),
    async call(moduleUrl, exportName, args, transfer) {
      if (failed) return engine.call(moduleUrl, exportName, args, transfer);
      return pool.call<never>(moduleUrl, exportName, args, transfer).catch((error: unknown) => {
        throw error instanceof DeviceLost ? lost(error.why) : error;
      });
    },
    async hessian(n): Promise<HessianAccumulator> {
      if (failed) return engine.hessian(n);
      const gathering = await gather(n, false);
      return { add: async (x) => (await gathering.add([checked("x", n, x)]))[0], finish: () => gathering.finish() };
    },
    async crossHessian(n): Promise<CrossHessianAccumulator> {
      if (failed) return engine.crossHessian(n);
      const gathering = await gather(n, true);
      return {
        add: async (x, original) => (await gathering.add(checkedPair(n, x, original))) as [Activations, Activations],
        finish: async () => {
          const { cross, ...gathered } = await gathering.finish();
          return { ...gathered, cross: cross! };
        },
      };
    },
    async close() {
      closed = true;
      await Promise.all([engine.close(), release()]);
    },
  };
}
