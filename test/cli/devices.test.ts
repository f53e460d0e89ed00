import { expect, it } from "vitest";
import type { Devices } from "shardsmith";
import { shardsmith } from "./cli.js";
import "../engine/gpu/adapter-for-tests.js";

const named = process.env["VK_ICD_FILENAMES"];

it.runIf(process.platform === "linux")("says how fast the CPU is, and what a GPU lacks", async () => {
  const { code, stdout } = await shardsmith(["devices"], undefined, "export VK_ICD_FILENAMES=/nonexistent/icd.json");
  expect(code).toBe(0);
  expect(stdout).toMatch(/^CPU: ONNX Runtime [\d.]+ on the CPU, \d+ threads? +[\d.]+ GFLOP\/s$/m);
  expect(stdout).toMatch(/^There is no GPU that WebGPU can use: .*Install/m);
  expect(stdout).not.toContain("quantize takes");
});

it.runIf(named?.includes("swiftshader"))("lists and measures a GPU, and says that quantize does not take one that the CPU plays", async () => {
  const { cpu, gpus, problem } = JSON.parse((await shardsmith(["devices", "--json"])).stdout) as Devices;
  expect(problem).toBeUndefined();
  expect(gpus).toEqual([{ name: expect.stringContaining("SwiftShader") as string, software: true, largestBuffer: 2 ** 30, speed: expect.any(Number) as number, kernels: expect.any(Array) as never }]);
  expect(gpus[0].kernels!.map(({ name }) => name)).toEqual(["upload", "difference", "hessian", "hessian, both halves", "propagate", "round", "search"]);
  for (const { name, flops, bytes } of gpus[0].kernels!) {
    expect(bytes).toBeGreaterThan(0);
    if (name !== "upload" && name !== "difference") expect(flops).toBeGreaterThan(0);
  }
  expect(gpus[0].speed).toBeGreaterThan(0);
  expect(gpus[0].speed).toBeLessThan(cpu.speed);
  const { stdout } = await shardsmith(["devices"]);
  expect(stdout).toMatch(/^propagate +[\d.]+ GFLOP\/s +[\d.e-]+ GB\/s$/m);
  expect(stdout).toContain("quantize takes the CPU; --device gpu takes the GPU all the same.");
});

it("refuses a device that there is not", async () => {
  const { code, stderr } = await shardsmith(["quantize", "x", "-o", "y", "--device", "tpu"]);
  expect(code).toBe(2);
  expect(stderr).toContain('Argument: device, Given: "tpu", Choices: "auto", "cpu", "gpu"');
});
