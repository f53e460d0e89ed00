import { InputError } from "../../errors.js";
import type { Device } from "../device.js";
import type { Engine } from "../engine.js";
import { forwardOnWebGpu } from "../onnx/forward-on-webgpu.js";
import { gigaflops, hessianSpeed, type Measured } from "../hessian-speed.js";
import { createGpuEngine, type GpuEngine } from "./create-gpu-engine.js";
import { listAdapters } from "./list-adapters.js";

/** Large enough for a GPU to show what it can, small enough for a CPU not to take long. */
const MEASURED: Measured = { n: 1024, tokens: 1024 };
/** For GPUs that the CPU plays. */
const SMALL: Measured = { n: 128, tokens: 512 };

export interface Chosen {
  readonly engine: Engine;
  /** One line: what gathers Hessians, and why; of a GPU, whether the forward pass runs there too. */
  readonly why: string;
  /** Where one was taken: multiplications and additions a second of its Hessian updates. */
  readonly hessians?: () => Promise<number>;
}

/**
 * Puts a GPU beside the engine where that is wished and to be had; unless the CPU plays it, it computes the forward pass too, where ONNX Runtime can. `engine` is closed with what is returned, and on an error.
 * @param strict let a fault of the GPU end the run
 * @throws {InputError} for `gpu` where there is none, saying what is missing
 */
export async function chooseDevice(engine: Engine, device: Device, strict: boolean): Promise<Chosen> {
  if (device === "cpu") return { engine, why: "on the CPU" };
  let gpu: GpuEngine;
  try {
    const [{ name, software }] = await listAdapters();
    if (device === "auto" && software) return { engine, why: `on the CPU: ${name} is software` };
    gpu = await createGpuEngine(engine, { strict });
  } catch (error) {
    if (device === "auto" && error instanceof InputError) return { engine, why: "on the CPU, since no GPU can be used: shardsmith devices says why" };
    await engine.close();
    throw error;
  }
  const { name } = gpu.adapter;
  if (device === "gpu") return taken(gpu, strict);
  const refuse = async (reason: string): Promise<Chosen> => {
    await gpu.release();
    return { engine, why: `on the CPU: ${name} ${reason}` };
  };
  try {
    const [ours, its] = [await cpuSpeed(engine), await gpuSpeed(gpu)];
    const speeds = `${gigaflops(its)} beside the CPU's ${gigaflops(ours)}`;
    return its > ours ? await taken(gpu, strict, `: ${speeds}`) : await refuse(`is slower: ${speeds}`);
  } catch (error) {
    return refuse(`cannot: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function taken(gpu: GpuEngine, strict: boolean, speeds = ""): Promise<Chosen> {
  const { name, software } = gpu.adapter;
  const hessians = (): Promise<number> => gpuSpeed(gpu);
  const staying = (reason: string): Chosen => ({ engine: gpu, hessians, why: `on ${name}${speeds}; the forward pass stays on the CPU${reason}` });
  if (software) return staying(", since the GPU is software");
  try {
    return { engine: await forwardOnWebGpu(gpu, { gpu: name, strict }), hessians, why: `on ${name}, and the forward pass too${speeds}` };
  } catch (error) {
    return staying(`: ${(error instanceof Error ? error.message : String(error)).split("\n")[0]}`);
  }
}

/** Multiplications and additions a second of a GPU's Hessian updates; its inputs come to it meanwhile, as in a run. */
export const gpuSpeed = (gpu: GpuEngine): Promise<number> => hessianSpeed(gpu, gpu.adapter.software ? SMALL : MEASURED, () => gpu.settle());

/** The same of an engine on the CPU. */
export const cpuSpeed = (engine: Engine): Promise<number> => hessianSpeed(engine, MEASURED);
