import { MessageChannel } from "node:worker_threads";
import { afterAll, beforeAll, expect, it } from "vitest";
import { DeviceLost } from "#src/engine/device-lost.js";
import type { LinearAlgebra } from "#src/engine/engine.js";
import { adapters, gpuJsOn } from "#src/engine/gpu/adapter.js";
import { residentOver } from "#src/engine/gpu/resident-over.js";
import { DeviceHessians } from "#src/engine/gpu/hessians.js";
import { DeviceResidents } from "#src/engine/gpu/residents.js";
import { residentOf, type Coefficients } from "#src/engine/resident.js";
import { serve } from "#src/engine/threads/serve.js";
import { gptq } from "#src/quantize/gptq.js";
import { refine } from "#src/quantize/refine.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import { makeCase, prepared } from "../../quantize/case.js";
import { plainLinearAlgebra as plain } from "../plain-linear-algebra.js";
import { random, relativeError } from "../random.js";
import { describeGpu } from "./adapter-for-tests.js";

describeGpu("matrices that stay on a GPU", () => {
  let hessians: DeviceHessians;
  let gpu: LinearAlgebra;
  /** Another thread's, as it were. */
  let other: LinearAlgebra;
  const [ports, otherPorts] = [new MessageChannel(), new MessageChannel()];
  beforeAll(async () => {
    const gpuJs = await gpuJsOn((await adapters())[0]);
    hessians = await DeviceHessians.open(gpuJs);
    const residents = await DeviceResidents.open(gpuJs, () => { hessians.check(); });
    [gpu, other] = [ports, otherPorts].map(({ port1, port2 }) => {
      serve(residents.methods(), port1);
      return { ...plain, resident: residentOver(port2, "A card") };
    });
  });
  afterAll(async () => {
    for (const { port2 } of [ports, otherPorts]) port2.close();
    await hessians.destroy();
  });

  const coefficients = (n: number, extra: Partial<Coefficients> = {}): Coefficients => ({ n, matrix: random(n * n, 1), key: `${n} ${Object.keys(extra).join()}`, ...extra });

  it.each([
    [1, 1, coefficients(1)], [5, 3, coefficients(5)], [172, 7, coefficients(172)],
    [172, 4, coefficients(172, { diagonal: Float64Array.from({ length: 172 }, (_, j) => j) })],
  ])("of %i rows and %i columns are what they are in memory, update by update", async (n, columns, r) => {
    const [there, here] = [random(n * columns, 2), random(n * columns, 2)];
    const [a, b] = [residentOf(gpu, there, r), residentOf(plain, here, r)];
    const steps = [[0, 1, 0], [0, n, 0], [Math.floor(n / 3), Math.ceil(n / 4), Math.floor(n / 2)], [n - 1, 1, n - 1]];
    for (const [step, [first, k, from]] of steps.entries()) {
      const e = random(k * columns, 3 + step);
      for (const resident of [a, b]) {
        await resident.subtract(first, e, from);
        await resident.fetch(from, n);
      }
      expect(relativeError(there.subarray(from * columns), Float64Array.from(here.subarray(from * columns)))).toBeLessThan(1e-6);
    }
    const inside = Math.floor(n / 2);
    there.fill(0);
    await a.fetch(inside, n);
    expect(relativeError(there.subarray(n * columns - columns), Float64Array.from(here.subarray(n * columns - columns)))).toBeLessThan(1e-6);
    await Promise.all([a.release(), b.release()]);
  });

  it("share their coefficients, and are their own: several at once, and one after all others are gone", async () => {
    const r = coefficients(6);
    const e = random(2 * 4, 9);
    const subtracted = async (la: LinearAlgebra, ...seeds: readonly number[]): Promise<Float32Array[]> => {
      const cs = seeds.map((seed) => random(6 * 4, seed));
      const residents = cs.map((c) => residentOf(la, c, r));
      await Promise.all(residents.map((resident) => resident.subtract(1, e, 3)));
      await Promise.all(residents.map((resident) => resident.fetch(3, 6)));
      await Promise.all(residents.map((resident) => resident.release()));
      return cs.map((c) => c.subarray(3 * 4));
    };
    for (const seeds of [[1, 2, 3], [4]]) {
      const [there, here] = [await subtracted(gpu, ...seeds), await subtracted(plain, ...seeds)];
      there.forEach((c, i) => { expect(relativeError(c, Float64Array.from(here[i]))).toBeLessThan(1e-6); });
    }
  });

  it("keep coefficients that one thread is done with while another's are on their way", async () => {
    const r = coefficients(8);
    const e = random(4, 3);
    const made = [gpu, other].map((la) => residentOf(la, new Float32Array(8 * 4), r));
    await made[0].subtract(0, e, 0);
    await Promise.all([made[1].subtract(0, e, 0), made[0].release()]);
    await made[1].subtract(1, e, 0);
    await expect(made[1].fetch(0, 8)).resolves.toBeUndefined();
    await made[1].release();
  });

  it.each(["natural", "act"] as const)("serve GPTQ and its refinement: the same codes in %s order", async (order) => {
    const c = makeCase(172, 3, [5, 63]);
    const { weight, rows, n } = c;
    const scheme: QuantScheme = { bits: 4, groupSize: 43, symmetric: true, scaleDtype: "F16" };
    const hessian = await prepared(c, order, scheme.groupSize);
    const found = await Promise.all([gpu, plain].map(async (la) => {
      const start = await gptq(la, weight, rows, scheme, true, hessian);
      return [start, await refine(la, weight, rows, scheme, hessian, start, 2)] as const;
    }));
    const [there, here] = found;
    for (const step of [0, 1]) {
      const same = here[step].codes.filter((code, i) => code === there[step].codes[i]).length;
      expect(same / (rows * n)).toBeGreaterThan(0.995);
      expect(there[step].loss / here[step].loss).toBeCloseTo(1, 2);
    }
  });

  it("that do not fit, or come back as NaN, are lost", async () => {
    const wide = residentOf(gpu, new Float32Array(20_000), { ...coefficients(1), n: 20_000, key: "wide" });
    await expect(wide.subtract(0, new Float32Array(1), 0)).rejects.toEqual(new DeviceLost("A card", "a matrix of 1610240000 bytes is larger than the device allows"));
    const c = residentOf(gpu, new Float32Array(2), coefficients(2));
    await c.subtract(0, Float32Array.of(NaN), 0);
    await expect(c.fetch(0, 2)).rejects.toEqual(new DeviceLost("A card", "the device left NaN or infinity"));
  });

  it("are lost with the device", async () => {
    const c = residentOf(gpu, new Float32Array(2), coefficients(2));
    await c.subtract(0, Float32Array.of(1), 0);
    await hessians.destroy();
    await expect(c.fetch(0, 2)).rejects.toBeInstanceOf(DeviceLost);
    await expect(residentOf(gpu, new Float32Array(2), coefficients(2)).subtract(0, Float32Array.of(1), 0)).rejects.toBeInstanceOf(DeviceLost);
  });
});
