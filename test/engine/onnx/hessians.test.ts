import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Activations, Engine } from "#src/engine/engine.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { plainLinearAlgebra } from "../plain-linear-algebra.js";
import { random, relativeError } from "../random.js";

let engine: Engine;
beforeAll(async () => {
  engine = await createOnnxEngine();
});
afterAll(() => engine.close());

const activations = (batch: number, tokens: number, width: number, seed: number): Activations => ({ batch, tokens, width, data: random(batch * tokens * width, seed) });

/** XᵀX over all batches, in doubles. */
async function plainHessian(n: number, batches: readonly Activations[]): Promise<Float64Array> {
  const h = new Float64Array(n * n);
  for (const { batch, tokens, data } of batches) {
    const a = Float64Array.from(data);
    await plainLinearAlgebra.gemm({ m: n, n, k: batch * tokens, a, b: a, c: h, transA: true, beta: 1 });
  }
  return h;
}

describe("a Hessian", () => {
  // ONNX Runtime does not document that a product may be added where its third operand lies; this watches that it goes on to work.
  it.each([1, 3, 96, 97, 172, 288, 400])("of %i inputs adds up over batches of any shape, in place and to the last bit symmetric", async (n) => {
    const batches = [[1, 40], [2, 13], [1, 1], [1, 200]].map(([batch, tokens], i) => activations(batch, tokens, n, i + 1));
    const expected = await plainHessian(n, batches);
    const hessian = await engine.hessian(n);
    for (const x of batches) expect((await hessian.add(x)).data).toEqual(random(x.batch * x.tokens * n, batches.indexOf(x) + 1));
    const { sum, rows } = await hessian.finish();
    expect(rows).toBe(40 + 26 + 1 + 200);
    expect(relativeError(sum, expected)).toBeLessThan(1e-6);
    expect(sum.every((value, k) => value === sum[(k % n) * n + Math.floor(k / n)])).toBe(true);
  });

  it("of nothing is zero", async () => {
    const { sum, rows } = await (await engine.hessian(5)).finish();
    expect(rows).toBe(0);
    expect(sum).toEqual(new Float32Array(25));
  });

  it("is apart from others, and the same to the bit when made again", async () => {
    const make = async () => {
      const [a, b] = [await engine.hessian(200), await engine.hessian(200)];
      for (let i = 0; i < 3; i++) {
        await a.add(activations(2, 50, 200, i));
        await b.add(activations(1, 10, 200, i + 10));
      }
      return [(await a.finish()).sum, (await b.finish()).sum];
    };
    const [a, b] = await make();
    expect(await make()).toEqual([a, b]);
    expect(relativeError(b, await plainHessian(200, [0, 1, 2].map((i) => activations(1, 10, 200, i + 10))))).toBeLessThan(1e-6);
  });

  it("carries NaN, rather than hiding it", async () => {
    const hessian = await engine.hessian(4);
    const x = activations(1, 2, 4, 1);
    x.data[6] = NaN;
    await hessian.add(x);
    const { sum } = await hessian.finish();
    expect([...sum].map((value) => Number.isNaN(value))).toEqual([0, 1, 2, 3].flatMap((i) => [0, 1, 2, 3].map((j) => i === 2 || j === 2)));
  });

  it("says that it was finished", async () => {
    const hessian = await engine.hessian(4);
    await hessian.finish();
    await expect(hessian.add(activations(1, 2, 4, 1))).rejects.toThrow("The Hessian was finished.");
  });

  it("refuses activations of another width", async () => {
    const hessian = await engine.hessian(4);
    await expect(hessian.add(activations(1, 2, 5, 1))).rejects.toThrow("The input x is 5 wide instead of 4.");
  });
});

describe("a Hessian with the cross-correlation of two streams", () => {
  /** Alike but for a thousandth, as the original's inputs and the quantized model's are. */
  const pair = (batch: number, tokens: number, n: number, seed: number): [Activations, Activations] => {
    const x = activations(batch, tokens, n, seed);
    const off = random(x.data.length, seed + 100);
    return [x, { ...x, data: x.data.map((value, i) => value + off[i] / 1000) }];
  };

  /** (X⁰ − X)ᵀX over all batches, in doubles. */
  const plainCross = async (n: number, pairs: readonly (readonly [Activations, Activations])[]): Promise<Float64Array> => {
    const c = new Float64Array(n * n);
    for (const [x, original] of pairs) {
      const b = Float64Array.from(x.data);
      await plainLinearAlgebra.gemm({ m: n, n, k: x.batch * x.tokens, a: Float64Array.from(original.data, (value, i) => value - b[i]), b, c, transA: true, beta: 1 });
    }
    return c;
  };

  it.each([1, 3, 172, 576])("of %i inputs adds both up over batches of any shape, and gives back what went in", async (n) => {
    const pairs = [[1, 40], [2, 13], [1, 1]].map(([batch, tokens], i) => pair(batch, tokens, n, i + 1));
    const [h, c] = [await plainHessian(n, pairs.map(([x]) => x)), await plainCross(n, pairs)];
    const hessian = await engine.crossHessian(n);
    for (const [i, [x, original]] of pairs.entries()) expect(await hessian.add(x, original)).toEqual(pair(x.batch, x.tokens, n, i + 1));
    const { sum, cross, rows } = await hessian.finish();
    expect(rows).toBe(40 + 26 + 1);
    expect(relativeError(sum, h)).toBeLessThan(1e-6);
    // Taken of the two products, it would be a thousand times that.
    expect(relativeError(cross, c)).toBeLessThan(2e-6);
  });

  it("has the Hessian that is made without it, to the bit, and no correlation where the streams are equal", async () => {
    const [alone, both] = [await engine.hessian(200), await engine.crossHessian(200)];
    for (const seed of [1, 2, 3]) {
      await alone.add(activations(2, 50, 200, seed));
      await both.add(activations(2, 50, 200, seed), activations(2, 50, 200, seed));
    }
    const { sum, cross } = await both.finish();
    expect(sum).toEqual((await alone.finish()).sum);
    expect(cross).toEqual(new Float32Array(200 * 200));
  });

  it("refuses inputs of other tokens or another width", async () => {
    const hessian = await engine.crossHessian(4);
    await expect(hessian.add(activations(1, 2, 4, 1), activations(1, 3, 4, 1))).rejects.toThrow(new Error("The inputs x and original have 8 and 12 values; they must be of the same tokens."));
    await expect(hessian.add(activations(1, 2, 4, 1), activations(1, 2, 5, 1))).rejects.toThrow(new Error("The input original is 5 wide instead of 4."));
  });
});
