import type { Engine } from "#src/engine/engine.js";
import { Transferring } from "#src/engine/transferring.js";
import { plainLinearAlgebra } from "../engine/plain-linear-algebra.js";

/** The engine's `call`, without threads: modules are loaded here, and what is said to be moved is. */
export const threads = (parallelism: number): Pick<Engine, "call" | "parallelism"> => ({
  parallelism,
  async call<R>(moduleUrl: string, exportName: string, args: readonly unknown[], transfer: readonly ArrayBuffer[] = []): Promise<R> {
    const module = (await import(moduleUrl)) as Record<string, (...args: unknown[]) => Promise<unknown>>;
    const result = await module[exportName](plainLinearAlgebra, ...structuredClone(args, { transfer: [...transfer] }));
    return (result instanceof Transferring ? structuredClone(result.result, { transfer: [...result.buffers] }) : result) as R;
  },
});
