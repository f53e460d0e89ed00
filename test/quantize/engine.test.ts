import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Engine } from "#src/engine/engine.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { dequantize } from "#src/quantize/dequantize.js";
import { prepareHessianIn, quantizeLinear } from "#src/quantize/linear.js";
import { ORDERS, type QuantScheme } from "#src/quantize/scheme.js";
import { activations, gaussians, generator, gram } from "./random.js";

describe("in the engine's threads", () => {
  const n = 320;
  const tokens = 400;
  const random = generator(21);
  const sum = gram(activations(tokens, n, random, [7]), tokens, n);
  const weight = { rows: 130, cols: n, data: gaussians(130 * n, random, 0.05) };
  const scheme: QuantScheme = { bits: 4, groupSize: 64, symmetric: true, scaleDtype: "F16" };
  let engine: Engine;
  beforeAll(async () => {
    engine = await createOnnxEngine({ threads: 2 });
  });
  afterAll(() => engine.close());

  async function run() {
    return Promise.all(
      ORDERS.map(async (order) => {
        const hessian = await prepareHessianIn(engine, sum.slice(), tokens, { order, groupSize: 64, damp: 0.01 });
        if ("problem" in hessian) throw new Error(hessian.detail);
        return [
          await quantizeLinear(engine, weight, { name: "q", scheme, method: "gptq", recipe: { search: true, refine: 0 }, hessian }),
          await quantizeLinear(engine, weight, { name: "q", scheme, method: "rtn", recipe: { search: true, refine: 0 }, hessian }),
        ] as const;
      }),
    );
  }

  it("the methods give the same bytes every time, and GPTQ the smaller error", async () => {
    const first = await run();
    const second = await run();
    first.forEach(([gptq, rtn], i) => {
      expect(gptq.linear).toEqual(second[i][0].linear);
      expect(gptq.dequantized).toEqual(second[i][0].dequantized);
      expect(gptq.stats.error).toBe(second[i][0].stats.error);
      expect(dequantize(gptq.linear)).toEqual(gptq.dequantized);
      expect(gptq.stats.relativeError).toBeLessThan(0.7 * rtn.stats.relativeError);
      expect(gptq.stats.relativeError).toBeGreaterThan(0);
    });
    expect(weight.data).toHaveLength(130 * n);
  });
});
