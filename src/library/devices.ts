import type { Adapter } from "../engine/gpu/adapter.js";
import { cpuSpeed, gpuSpeed } from "../engine/gpu/choose-device.js";
import { createGpuEngine } from "../engine/gpu/create-gpu-engine.js";
import type { KernelSpeed } from "../engine/gpu/kernel-runs.js";
import { listAdapters } from "../engine/gpu/list-adapters.js";
import { engineOf } from "./engine.js";

/** What there is to compute with. Speeds are multiplications and additions a second of Hessian updates, as `quantize` measures them. */
export interface Devices {
  readonly cpu: { readonly engine: string; readonly speed: number };
  /** The fastest first; that one is measured, and is what `quantize` would take: `speed` of Hessians, whose inputs come to it meanwhile, and each kernel by itself. */
  readonly gpus: readonly (Adapter & { readonly speed?: number; readonly kernels?: readonly KernelSpeed[] })[];
  /** Why there is no GPU, or why it cannot be used, and what would help. */
  readonly problem?: string;
}

/** Lists the GPUs of this machine and measures what they would bring. */
export async function devices({ threads }: { readonly threads?: number } = {}): Promise<Devices> {
  const engine = await engineOf(threads)();
  try {
    const cpu = { engine: engine.description, speed: await cpuSpeed(engine) };
    let gpus: readonly Adapter[] = [];
    try {
      gpus = await listAdapters();
      const gpu = await createGpuEngine(engine);
      try {
        const measured = { speed: await gpuSpeed(gpu), kernels: await gpu.kernelSpeeds() };
        return { cpu, gpus: gpus.map((adapter, i) => (i === 0 ? { ...adapter, ...measured } : adapter)) };
      } finally {
        await gpu.release();
      }
    } catch (error) {
      return { cpu, gpus, problem: error instanceof Error ? error.message : String(error) };
    }
  } finally {
    await engine.close();
  }
}
