import type { MessagePort } from "node:worker_threads";
import type { Activations } from "../engine.js";
import { native } from "../threads/native-guard.js";
import { serve } from "../threads/serve.js";
import { transferring, type Transferring } from "../transferring.js";
import { adapters, describe, gpuJsOn, type Adapter } from "./adapter.js";
import { DeviceMemory } from "./device-memory.js";
import type { GpuJs } from "./device.js";
import { DeviceHessians, type Cut, type Sums } from "./hessians.js";
import { kernelSpeeds, type KernelSizes } from "./kernel-runs.js";
import { DeviceResidents } from "./residents.js";

/** What was to be added, given back also where that failed. */
export interface Added {
  readonly given: readonly Activations[];
  readonly trouble?: string;
}

/** The thread that hands work to the GPU: copying activations to it would hold up the caller's. */
let gpuJs: GpuJs | undefined;
let hessians: DeviceHessians | undefined;
let residents: DeviceResidents | undefined;
let memory: DeviceMemory | undefined;

serve({
  /** Opens the first adapter. */
  open: (cut?: Cut) => native(async (): Promise<Adapter> => {
    const [adapter] = await adapters();
    gpuJs = await gpuJsOn(adapter);
    const opened = (hessians = await DeviceHessians.open(gpuJs, cut));
    memory = new DeviceMemory(opened.device);
    residents = await DeviceResidents.open(gpuJs, () => { opened.check(); });
    return describe(adapter);
  }),
  hessian: (id: number, n: number, cross: boolean) => native(() => hessians!.create(id, n, cross)),
  async add(id: number, given: readonly Activations[]): Promise<Transferring<Added>> {
    const [{ batch, tokens, data }, original] = given;
    const buffers = given.map(({ data: { buffer } }) => buffer);
    try {
      await native(() => hessians!.add(id, batch * tokens, data, original?.data));
      return transferring({ given }, buffers);
    } catch (error) {
      return transferring({ given, trouble: error instanceof Error ? error.message : String(error) }, buffers);
    }
  },
  /** Serves a thread that quantizes with residents of its own: see `residentOver`. */
  connect: (port: MessagePort): void => {
    const methods = Object.entries(residents!.methods());
    serve(Object.fromEntries(methods.map(([name, method]) => [name, (...args: never[]) => native(() => Promise.resolve(method(...args)))])), port);
  },
  /** `KernelSpeed`s, measured for `seconds` each. */
  kernelSpeeds: (sizes: KernelSizes, seconds: number) => native(() => kernelSpeeds(gpuJs!, sizes, seconds)),
  /** Bytes that buffers took at the most. */
  memory: () => memory!.peak,
  settle: () => native(() => hessians!.settle()),
  async finish(id: number): Promise<Transferring<Sums>> {
    const sums = await native(() => hessians!.finish(id));
    return transferring(sums, [sums.sum.buffer, ...(sums.cross ? [sums.cross.buffer] : [])]);
  },
  /** Gives the GPU's memory back. */
  destroy: () => native(async () => hessians?.destroy()),
});
