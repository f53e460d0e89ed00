import { describe, expect, it } from "vitest";
import type { Engine } from "#src/engine/engine.js";
import { InputError } from "#src/errors.js";
import { prepareHessianIn, quantizeLinear, type LinearOptions } from "#src/quantize/linear.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import { quantizeInSlices } from "#src/quantize/slices.js";
import { plainLinearAlgebra } from "../engine/plain-linear-algebra.js";
import { activations, gaussians, generator, gram } from "./random.js";

const n = 32;
const rows = 70;
const tokens = 90;
const random = generator(8);
const sum = gram(activations(tokens, n, random, [3]), tokens, n);
const weight = gaussians(rows * n, random, 0.05);

const thread: Pick<Engine, "call" | "parallelism"> = {
  parallelism: 1,
  async call<R>(moduleUrl: string, exportName: string, args: readonly unknown[]): Promise<R> {
    const module = (await import(moduleUrl)) as Record<string, (...args: unknown[]) => Promise<unknown>>;
    const result = await module[exportName](plainLinearAlgebra, ...structuredClone(args));
    return (exportName === "quantizeSlab" ? (result as { result: unknown }).result : result) as R;
  },
};

const options = async (method: "rtn" | "gptq", order: "group-aware" | "act", grid: Partial<QuantScheme> = {}): Promise<LinearOptions> => {
  const hessian = await prepareHessianIn(thread, sum.slice(), tokens, { order, groupSize: 16, damp: 0.01, ...(grid.groupSize && { groupSize: grid.groupSize, unit: n }) });
  if ("problem" in hessian) throw new Error(hessian.detail);
  return { name: "lm_head", method, scheme: { bits: 4, groupSize: 16, symmetric: false, scaleDtype: "F16", ...grid }, recipe: { search: true, refine: 1 }, ...(method === "gptq" && { hessian }) };
};

describe("quantizeInSlices", () => {
  it.each([
    ["rtn", "group-aware", {}], ["gptq", "group-aware", {}], ["gptq", "act", {}], ["gptq", "group-aware", { groupSize: 4, offsets: "super-block" }],
  ] as const)("gives what the whole gives, by %s in %s order, %j", async (method, order, grid) => {
    const how = await options(method, order, grid);
    const whole = await quantizeLinear(thread, { rows, cols: n, data: weight }, how);
    const read: number[][] = [];
    const { linear, stats } = await quantizeInSlices(thread, { rows, cols: n }, (from, to) => {
      read.push([from, to]);
      return Promise.resolve(weight.slice(from * n, to * n));
    }, how, 27 * n);
    expect(read).toEqual([[0, 27], [27, 54], [54, 70]]);
    expect(linear).toEqual(whole.linear);
    expect(linear.groupOf === undefined).toBe(order !== "act");
    expect(stats.scales).toEqual(whole.stats.scales);
    expect(stats.relativeError).toBeCloseTo(whole.stats.relativeError, 12);
  });

  it("names the row of the whole in which a weight is not finite", async () => {
    const broken = weight.slice();
    broken[40 * n + 5] = NaN;
    const run = quantizeInSlices(thread, { rows, cols: n }, (from, to) => Promise.resolve(broken.slice(from * n, to * n)), await options("rtn", "group-aware"), 27 * n);
    await expect(run).rejects.toThrow(new InputError("lm_head: the weight at row 40, column 5 is NaN"));
  });
});
