import type { Activations } from "../engine.js";
import { native } from "../threads/native-guard.js";
import { serve } from "../threads/serve.js";
import { transferring, type Transferring } from "../transferring.js";
import { adapters, describe, gpuJsOn, type Adapter } from "./adapter.js";
import { DeviceHessians, type Cut, type Sums } from "./hessians.js";

/** What was to be added, given back also where that failed. */
export interface Added {
  readonly given: readonly Activations[];
  readonly trouble?: string;
}

/** The thread that hands work to the GPU: copying activations to it would hold up the caller's. */
let hessians: DeviceHessians | undefined;

serve({
  /** Opens the first adapter. */
  open: (cut?: Cut) => native(async (): Promise<Adapter> => {
    const [adapter] = await adapters();
    hessians = await DeviceHessians.open(await gpuJsOn(adapter), cut);
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
  settle: () => native(() => hessians!.settle()),
  async finish(id: number): Promise<Transferring<Sums>> {
    const sums = await native(() => hessians!.finish(id));
    return transferring(sums, [sums.sum.buffer, ...(sums.cross ? [sums.cross.buffer] : [])]);
  },
  /** Gives the GPU's memory back. */
  destroy: () => native(async () => hessians?.destroy()),
});
