import { InputError } from "../../errors.js";
import type { GpuJs } from "./device.js";

/** What can be asked of an adapter. */
export interface Adapter {
  /** As its driver calls it. */
  readonly name: string;
  /** Whether the CPU plays a GPU: good for tests, slower than the CPU itself. */
  readonly software: boolean;
  /** Bytes of the largest buffer that a kernel may use. */
  readonly largestBuffer: number;
}

/** The adapters of this machine, the fastest first; two of one kind and driver are told as one. Throws `InputError` saying what is missing. */
export async function adapters(): Promise<readonly [GPUAdapter, ...GPUAdapter[]]> {
  const gpu = await dawn();
  const found = new Map<string, GPUAdapter>();
  for (const options of [{ powerPreference: "high-performance" }, { powerPreference: "low-power" }, { forceFallbackAdapter: true }] as const) {
    const adapter = await gpu.requestAdapter(options);
    if (adapter !== null && !found.has(describe(adapter).name)) found.set(describe(adapter).name, adapter);
  }
  const [first, ...others] = found.values();
  if (first === undefined) throw new InputError(`There is no GPU that WebGPU can use: ${DRIVER_HELP[process.platform] ?? "no driver was found"}`);
  return [first, ...others];
}

export function describe({ info, limits }: GPUAdapter): Adapter {
  const { description, vendor, architecture, isFallbackAdapter } = info;
  return {
    name: [description || vendor || "a GPU without a name", architecture && `(${architecture})`].filter(Boolean).join(" "),
    software: isFallbackAdapter,
    largestBuffer: Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize),
  };
}

/** Loads gpu.js such that it runs on this adapter, in this thread. */
export async function gpuJsOn(adapter: GPUAdapter): Promise<GpuJs> {
  // gpu.js asks for any adapter, and always here.
  Object.defineProperty(globalThis, "navigator", { value: { gpu: { requestAdapter: () => Promise.resolve(adapter) } }, configurable: true });
  return (await import("gpu.js")).default as unknown as GpuJs;
}

/** Vulkan's loader and a driver are what Dawn needs on Linux; other systems bring theirs. */
const DRIVER_HELP: Partial<Record<NodeJS.Platform, string>> = {
  linux: "the Vulkan loader found no driver. Install your card's (on Debian and Ubuntu: mesa-vulkan-drivers for AMD and Intel, nvidia-driver for NVIDIA); in a container, the GPU must be passed in",
  darwin: "Metal offers none to this process",
  win32: "Direct3D 12 offers none; update your card's driver",
};

// Dawn crashes the process where this is collected before what was asked of it.
let instance: GPU | undefined;

/** WebGPU for Node.js: Dawn, from the package `webgpu`. */
async function dawn(): Promise<GPU> {
  if (instance !== undefined) return instance;
  if (process.platform === "linux") checkVulkan();
  const { create, globals } = await import("webgpu").catch((cause: unknown) => {
    throw new InputError(loadingHelp(`${process.platform}-${process.arch}`, cause instanceof Error ? cause.message : String(cause)));
  });
  Object.assign(globalThis, globals);
  return (instance = create([]));
}

/** What to say when the package `webgpu` does not load on `platform` because of `cause`. */
export function loadingHelp(platform: string, cause: string): string {
  const problem = `The package webgpu (Dawn, for Node.js) does not load on ${platform}: ${cause.split("\n")[0]}`;
  if (cause.includes("GLIBC")) return `${problem}\nThis system's C library is older than it needs: Debian 12, Ubuntu 22.04 or newer have it`;
  if (/Cannot find (package|module)/.test(cause)) return `${problem}\nInstall it again: npm install webgpu. It has binaries for linux-x64, linux-arm64, darwin, win32-x64 and win32-arm64`;
  return problem;
}

const VULKAN = "libvulkan.so.1";

/** Dawn prints to the terminal where Vulkan's loader is missing; asked before, the system says so itself. */
function checkVulkan(): void {
  try {
    process.dlopen({ exports: {} }, VULKAN);
  } catch (error) {
    // Where it is there, it is only no module of Node.js.
    if ((error as Error).message.includes("cannot open shared object file")) {
      throw new InputError(`There is no GPU that WebGPU can use: ${VULKAN} is missing. Install Vulkan's loader (on Debian and Ubuntu: libvulkan1) and your card's driver`);
    }
  }
}
