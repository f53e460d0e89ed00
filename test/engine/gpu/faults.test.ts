import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import type { Activations, Engine } from "#src/engine/engine.js";
import { adapters, gpuJsOn, loadingHelp } from "#src/engine/gpu/adapter.js";
import { chooseDevice } from "#src/engine/gpu/choose-device.js";
import { createGpuEngine } from "#src/engine/gpu/create-gpu-engine.js";
import type { GpuJs } from "#src/engine/gpu/device.js";
import { DeviceHessians } from "#src/engine/gpu/hessians.js";
import { listAdapters } from "#src/engine/gpu/list-adapters.js";
import { DeviceLost } from "#src/engine/device-lost.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { describeGpu } from "./adapter-for-tests.js";

const NO_DRIVER = "/nonexistent/icd.json";
const drivers = process.env["VK_ICD_FILENAMES"];
afterEach(() => {
  if (drivers === undefined) delete process.env["VK_ICD_FILENAMES"];
  else process.env["VK_ICD_FILENAMES"] = drivers;
});
const withNaN = (): Activations => ({ batch: 1, tokens: 2, width: 4, data: Float32Array.of(1, 2, NaN, 4, 5, 6, 7, 8) });

describe.runIf(process.platform === "linux")("without a GPU", () => {
  it("says what is missing", async () => {
    process.env["VK_ICD_FILENAMES"] = NO_DRIVER;
    await expect(listAdapters()).rejects.toThrow(/^There is no GPU that WebGPU can use: (the Vulkan loader found no driver\. Install your card's|libvulkan\.so\.1 is missing\. Install)/);
  });

  it("is refused where it was asked for, and the CPU's place where it was not", async () => {
    process.env["VK_ICD_FILENAMES"] = NO_DRIVER;
    const refused = await createOnnxEngine({ threads: 1 });
    await expect(chooseDevice(refused, "gpu", false)).rejects.toBeInstanceOf(InputError);
    await expect(refused.hessian(4)).rejects.toThrow("The engine was closed.");
    const engine = await createOnnxEngine({ threads: 1 });
    expect(await chooseDevice(engine, "auto", false)).toEqual({ engine, why: "on the CPU, since no GPU can be used: shardsmith devices says why" });
    expect(await chooseDevice(engine, "cpu", false)).toEqual({ engine, why: "on the CPU" });
    await engine.close();
  });

  it("names what keeps the package from loading", () => {
    expect(loadingHelp("linux-x64", "/lib/libc.so.6: version `GLIBC_2.38' not found\nmore")).toMatch(/^The package webgpu .* linux-x64: .*GLIBC_2\.38' not found\nThis system's C library is older/);
    expect(loadingHelp("freebsd-x64", "Cannot find module 'dawn.node'")).toMatch(/npm install webgpu.* linux-x64/);
    expect(loadingHelp("linux-x64", "something else")).toBe("The package webgpu (Dawn, for Node.js) does not load on linux-x64: something else");
  });
});

describeGpu("a GPU's fault", () => {
  let gpuJs: GpuJs;
  beforeAll(async () => {
    gpuJs = await gpuJsOn((await adapters())[0]);
  });

  it("ends its part: Hessians made after it come from the engine beneath", async () => {
    const cpu = await createOnnxEngine({ threads: 1 });
    const engine = await createGpuEngine(cpu);
    const { name } = engine.adapter;
    const hessian = await engine.hessian(4);
    expect(await hessian.add(withNaN())).toEqual(withNaN());
    await expect(hessian.finish()).rejects.toEqual(new DeviceLost(name, "the device left NaN or infinity"));
    expect((await (await engine.hessian(4)).finish()).device).toBe("CPU");
    expect((await (await engine.crossHessian(4)).finish()).device).toBe("CPU");
    await engine.close();
  });

  it("ends the run where that is wished", async () => {
    const engine: Engine = await createGpuEngine(await createOnnxEngine({ threads: 1 }), { strict: true });
    const hessian = await engine.hessian(4);
    await hessian.add(withNaN());
    const error: unknown = await hessian.finish().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toMatch(/failed: the device left NaN or infinity\. Without --no-fallback the CPU would go on in its place$/);
    await engine.close();
  });

  it("is none where the engine is closed in the middle of its work", async () => {
    const engine = await createGpuEngine(await createOnnxEngine({ threads: 1 }));
    const hessian = await engine.hessian(64);
    const add = () => hessian.add({ batch: 1, tokens: 512, width: 64, data: new Float32Array(512 * 64) });
    await add();
    const [closing, adding] = [engine.close(), add().then(() => hessian.finish())];
    await expect(adding).rejects.toThrow(new Error("The engine was closed."));
    await closing;
    await expect(engine.hessian(4)).rejects.toThrow(new Error("The engine was closed."));
  });

  it("is no fault of a GPU that the CPU plays: it is only not chosen", async () => {
    const engine = await createOnnxEngine({ threads: 1 });
    const { engine: chosen, why } = await chooseDevice(engine, "auto", false);
    expect([chosen === engine, why]).toEqual([true, expect.stringMatching(/^on the CPU: .* is software$/)]);
    await engine.close();
  });

  it("is noticed where a buffer is larger than it allows", async () => {
    const hessians = await DeviceHessians.open(gpuJs, { rows: 1, widest: 100_000 });
    await expect(hessians.create(1, 100_000, false)).rejects.toThrow("reduce the output or split the work across kernels");
    await hessians.create(2, 2, false);
    expect((await hessians.finish(2)).sum).toEqual(new Float32Array(4));
  });

  it("is noticed where it is lost before, and while, sums come back", async () => {
    const hessians = await DeviceHessians.open(gpuJs, { rows: 4, widest: 8 });
    await hessians.create(1, 4, false);
    await hessians.create(2, 4, false);
    await hessians.add(1, 1, Float32Array.of(1, 2, 3, 4));
    await hessians.destroy();
    await expect(hessians.finish(1)).rejects.toThrow();
    await expect(hessians.add(2, 1, Float32Array.of(1, 2, 3, 4))).rejects.toThrow("WebGPU device was lost");
  });
});
