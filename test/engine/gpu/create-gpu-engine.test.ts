import { afterAll, beforeAll, expect, it } from "vitest";
import type { Activations, Engine } from "#src/engine/engine.js";
import { createGpuEngine, describesGpu, type GpuEngine } from "#src/engine/gpu/create-gpu-engine.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { plainLinearAlgebra } from "../plain-linear-algebra.js";
import { random, relativeError } from "../random.js";
import { describeGpu } from "./adapter-for-tests.js";

const activations = (batch: number, tokens: number, width: number, seed: number, size = 1): Activations =>
  ({ batch, tokens, width, data: random(batch * tokens * width, seed).map((value) => value * size) });

/** aᵀb over all pairs, in doubles. */
async function plainProduct(n: number, pairs: readonly (readonly [a: Float64Array, b: Float64Array])[]): Promise<Float64Array> {
  const sum = new Float64Array(n * n);
  for (const [a, b] of pairs) await plainLinearAlgebra.gemm({ m: n, n, k: a.length / n, a, b, c: sum, transA: true, beta: 1 });
  return sum;
}
const plainHessian = (n: number, batches: readonly Activations[]): Promise<Float64Array> =>
  plainProduct(n, batches.map(({ data }) => [Float64Array.from(data), Float64Array.from(data)] as const));

describeGpu("Hessians on a GPU", () => {
  let cpu: Engine;
  let engine: GpuEngine;
  beforeAll(async () => {
    cpu = await createOnnxEngine({ threads: 1 });
    // A GPU that the CPU plays is slow: small cuts ask for less that is only filled up.
    engine = await createGpuEngine(cpu, { cut: { rows: 32, widest: 128 } });
  });
  afterAll(() => engine.close());

  it("say where they are made", () => {
    expect(describesGpu(engine.description)).toBe(true);
    expect(describesGpu(cpu.description)).toBe(false);
    expect(engine.description).toBe(`${cpu.description}; Hessians by gpu.js on ${engine.adapter.name}`);
  });

  it.each([[1, 1], [3, 1], [16, 1100], [172, 40], [576, 2]])("of %i inputs and batches of %i tokens agree with doubles, and give back what went in", async (n, tokens) => {
    const batches = [activations(1, tokens, n, 1), activations(2, tokens, n, 2)];
    const hessian = await engine.hessian(n);
    for (const [i, x] of batches.entries()) expect(await hessian.add(x)).toEqual(activations(i + 1, tokens, n, i + 1));
    const { sum, rows, device } = await hessian.finish();
    expect([rows, device]).toEqual([3 * tokens, engine.adapter.name]);
    expect(relativeError(sum, await plainHessian(n, [activations(1, tokens, n, 1), activations(2, tokens, n, 2)]))).toBeLessThan(1e-5);
    expect(sum.every((value, k) => value === sum[(k % n) * n + Math.floor(k / n)])).toBe(true);
  });

  it.each([1e-12, 1e12])("of inputs of size %d agree with doubles; dead channels stay zero", async (size) => {
    const n = 20;
    const made = () => {
      const x = activations(1, 30, n, 5, size);
      for (let row = 0; row < 30; row++) x.data[row * n + 7] = 0;
      return x;
    };
    const hessian = await engine.hessian(n);
    await hessian.add(made());
    const { sum } = await hessian.finish();
    expect(relativeError(sum, await plainHessian(n, [made()]))).toBeLessThan(1e-6);
    expect(sum.filter((_, k) => k % n === 7 || Math.floor(k / n) === 7).every((value) => value === 0)).toBe(true);
  });

  it.each([3, 172])("with the cross-correlation of two streams of %i inputs agree with doubles", async (n) => {
    const x = () => activations(2, 13, n, 6);
    const off = random(26 * n, 7);
    const original = () => ({ ...x(), data: x().data.map((value, i) => value + off[i] / 1000) });
    const hessian = await engine.crossHessian(n);
    expect(await hessian.add(x(), original())).toEqual([x(), original()]);
    const { sum, cross, rows } = await hessian.finish();
    const { data } = x();
    const departure = Float64Array.from(original().data, (value, i) => value - data[i]);
    expect(rows).toBe(26);
    expect(relativeError(sum, await plainHessian(n, [x()]))).toBeLessThan(1e-6);
    expect(relativeError(cross, await plainProduct(n, [[departure, Float64Array.from(data)]]))).toBeLessThan(2e-6);
  });

  it.each([100, 200])("of %i inputs and their cross-correlation take their tiles, one more, and a few batches of inputs, however many are added", async (n) => {
    const own = await createGpuEngine(cpu, { cut: { rows: 32, widest: 128 } });
    const hessian = await own.crossHessian(n);
    for (let i = 0; i < 6; i++) await hessian.add(activations(1, 64, n, 1), activations(1, 64, n, 2));
    await hessian.finish();
    const [across, width] = n > 128 ? [2, 100] : [1, 100];
    const tiles = (across * (across + 1)) / 2 + across ** 2;
    const memory = await own.deviceMemory();
    expect(memory).toBeGreaterThan(4 * tiles * width ** 2);
    // X and X⁰ as they come and as they lie there, their difference, and a tile to be read through; what is smaller is beside them.
    expect(memory).toBeLessThan(4 * ((tiles + 2) * width ** 2 + 5 * 32 * n) + 20_000);
    await own.release();
  });

  it("of nothing is zero, also where another one's memory serves again", async () => {
    const { sum, rows } = await (await engine.hessian(172)).finish();
    expect([rows, sum]).toEqual([0, new Float32Array(172 * 172)]);
  });

  it("refuse activations of another width, or of other tokens", async () => {
    await expect((await engine.hessian(4)).add(activations(1, 2, 5, 1))).rejects.toThrow(new Error("The input x is 5 wide instead of 4."));
    await expect((await engine.crossHessian(4)).add(activations(1, 2, 4, 1), activations(1, 3, 4, 1))).rejects.toThrow("they must be of the same tokens");
  });
});
