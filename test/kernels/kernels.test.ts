import { afterAll, beforeAll, expect, it } from "vitest";
import { adapters, gpuJsOn } from "#src/engine/gpu/adapter.js";
import { DeviceKernel, NOTHING, type GpuJs } from "#src/engine/gpu/device.js";
import { upload, UPLOAD_ARGUMENTS } from "#kernels/upload.js";
import { describeGpu } from "../engine/gpu/adapter-for-tests.js";
import { checkKernels, errorOf } from "./checks.js";

describeGpu("kernels in Node.js", () => {
  let gpuJs: GpuJs;
  const navigatorWas = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  beforeAll(async () => {
    gpuJs = await gpuJsOn((await adapters())[0]);
  });
  afterAll(() => {
    if (navigatorWas) Object.defineProperty(globalThis, "navigator", navigatorWas);
  });

  it("leave what their references say", async () => {
    const checks = await checkKernels(gpuJs);
    expect(checks).toHaveLength(4 + 1 + 2 * 6 + 6 + 8 + 3);
    for (const check of checks) expect(errorOf(check), check.name).toBeLessThan(1e-6);
  });

  it("are refused where gpu.js would run them without WebGPU", async () => {
    const elsewhere = new DeviceKernel(gpuJs, new gpuJs.GPU({ mode: "cpu" }), upload, UPLOAD_ARGUMENTS);
    await expect(elsewhere.run(1, 1, NOTHING, 1, 1)).rejects.toThrow("gpu.js ran a kernel in mode cpu, not webgpu");
  });
});
