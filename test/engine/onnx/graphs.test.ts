import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Activations, Engine } from "#src/engine/engine.js";
import type { Graph, GraphNode } from "#src/engine/graph.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { plainGraph } from "../plain-graph.js";
import { random, relativeError } from "../random.js";

let engine: Engine;
beforeAll(async () => {
  engine = await createOnnxEngine();
});
afterAll(() => engine.close());

const activations = (batch: number, tokens: number, width: number, seed: number): Activations => ({ batch, tokens, width, data: random(batch * tokens * width, seed) });

function weightsOf(graph: Graph): Map<string, Float32Array<ArrayBuffer>> {
  return new Map(graph.weights.map(({ name, shape }, i) => {
    const values = random(shape.reduce((a, b) => a * b, 1), 100 + i);
    return [name, name === "cos" ? values.map((v) => Math.cos(3 * v)) : name === "sin" ? values.map((v) => Math.sin(3 * v)) : values];
  }));
}

async function runBeside(graph: Graph, batch: number, tokens: number): Promise<void> {
  const inputs = Object.fromEntries(graph.inputs.map(({ name, width }, i) => [name, activations(batch, tokens, width, i + 1)]));
  const expected = plainGraph(graph, weightsOf(graph), inputs);
  const prepared = await engine.prepare(graph, weightsOf(graph));
  const { outputs } = await prepared.run(inputs);
  await prepared.release();
  for (const { name, width } of graph.outputs) {
    expect(outputs[name]).toMatchObject({ batch, tokens, width });
    expect(relativeError(outputs[name].data, expected[name])).toBeLessThan(2e-6);
  }
}

const single = (node: GraphNode, inputs: Record<string, number>, weights: Record<string, number[]>, width: number): Graph => ({
  inputs: Object.entries(inputs).map(([name, w]) => ({ name, width: w })),
  weights: Object.entries(weights).map(([name, shape]) => ({ name, shape })),
  nodes: [node],
  outputs: [{ name: node.out, width }],
});

describe.each([[1, 1], [1, 7], [3, 5]])("operations on %i sequences of %i tokens", (batch, tokens) => {
  it.each<[string, Graph]>([
    ["rmsNorm", single({ op: "rmsNorm", out: "y", x: "x", weight: "w", eps: 1e-5 }, { x: 24 }, { w: [24] }, 24)],
    ["headNorm", single({ op: "headNorm", out: "y", x: "x", weight: "w", heads: 3, eps: 1e-6 }, { x: 24 }, { w: [8] }, 24)],
    ["linear", single({ op: "linear", out: "y", x: "x", weight: "w" }, { x: 24 }, { w: [40, 24] }, 40)],
    ["linear with bias", single({ op: "linear", out: "y", x: "x", weight: "w", bias: "b" }, { x: 24 }, { w: [40, 24], b: [40] }, 40)],
    ["add", single({ op: "add", out: "y", a: "a", b: "b" }, { a: 9, b: 9 }, {}, 9)],
    ["mul", single({ op: "mul", out: "y", a: "a", b: "b" }, { a: 9, b: 9 }, {}, 9)],
    ["silu", single({ op: "activation", out: "y", x: "x", kind: "silu" }, { x: 33 }, {}, 33)],
    ["gelu", single({ op: "activation", out: "y", x: "x", kind: "gelu" }, { x: 33 }, {}, 33)],
    ["gelu_tanh", single({ op: "activation", out: "y", x: "x", kind: "gelu_tanh" }, { x: 33 }, {}, 33)],
  ])("%s is what plain loops make", (_, graph) => runBeside(graph, batch, tokens));
});

describe("attention", () => {
  const attention = (heads: number, kvHeads: number, headDim: number, window?: number): Graph => single(
    { op: "attention", out: "y", q: "q", k: "k", v: "v", cos: "cos", sin: "sin", heads, kvHeads, headDim, scale: 1.7 / Math.sqrt(headDim), ...(window === undefined ? {} : { window }) },
    { q: heads * headDim, k: kvHeads * headDim, v: kvHeads * headDim },
    { cos: [280, headDim / 2], sin: [280, headDim / 2] },
    heads * headDim);

  it.each([
    [8, 8, 16, 1, 9], [4, 2, 32, 2, 9], [9, 3, 64, 1, 80], [4, 1, 256, 2, 5], [2, 1, 64, 3, 1],
    [8, 4, 8, 2, 9], [2, 2, 6, 2, 9], [3, 1, 20, 1, 9], [2, 1, 80, 1, 9],
    // In two pieces of unequal length, and in four.
    [4, 2, 16, 2, 131], [3, 1, 20, 1, 263],
  ])("of %i heads on %i, %i wide, over %i sequences of %i tokens is what plain loops make",
    (heads, kvHeads, headDim, batch, tokens) => runBeside(attention(heads, kvHeads, headDim), batch, tokens));

  it.each([1, 2, 4, 11, 12, 13])("sees %i positions, its own included", (window) => runBeside(attention(4, 2, 32, window), 2, 12));

  it("sees a window across pieces, with heads of 8 too", () => runBeside(attention(4, 2, 8, 70), 2, 150));
});

/** A layer in Llama's way, whose heads together (4 · 32) are wider than the hidden state (64). */
const layer = (suffix = ""): Graph => {
  const n = (name: string) => name + suffix;
  return {
    inputs: [{ name: n("h"), width: 64 }],
    weights: [
      { name: n("norm1"), shape: [64] }, { name: n("q.w"), shape: [128, 64] }, { name: n("q.b"), shape: [128] }, { name: n("k.w"), shape: [64, 64] },
      { name: n("v.w"), shape: [64, 64] }, { name: "cos", shape: [32, 16] }, { name: "sin", shape: [32, 16] }, { name: n("qn"), shape: [32] },
      { name: n("o.w"), shape: [64, 128] }, { name: n("norm2"), shape: [64] }, { name: n("gate.w"), shape: [96, 64] }, { name: n("up.w"), shape: [96, 64] },
      { name: n("down.w"), shape: [64, 96] },
    ],
    nodes: [
      { op: "rmsNorm", out: n("x1"), x: n("h"), weight: n("norm1"), eps: 1e-5 },
      { op: "linear", out: n("q0"), x: n("x1"), weight: n("q.w"), bias: n("q.b") },
      { op: "headNorm", out: n("q"), x: n("q0"), weight: n("qn"), heads: 4, eps: 1e-6 },
      { op: "linear", out: n("k"), x: n("x1"), weight: n("k.w") },
      { op: "linear", out: n("v"), x: n("x1"), weight: n("v.w") },
      { op: "attention", out: n("a"), q: n("q"), k: n("k"), v: n("v"), cos: "cos", sin: "sin", heads: 4, kvHeads: 2, headDim: 32, scale: 32 ** -0.5 },
      { op: "linear", out: n("o"), x: n("a"), weight: n("o.w") },
      { op: "add", out: n("h2"), a: n("h"), b: n("o") },
      { op: "rmsNorm", out: n("x2"), x: n("h2"), weight: n("norm2"), eps: 1e-5 },
      { op: "linear", out: n("g0"), x: n("x2"), weight: n("gate.w") },
      { op: "activation", out: n("g"), x: n("g0"), kind: "silu" },
      { op: "linear", out: n("u"), x: n("x2"), weight: n("up.w") },
      { op: "mul", out: n("m"), a: n("g"), b: n("u") },
      { op: "linear", out: n("d"), x: n("m"), weight: n("down.w") },
      { op: "add", out: n("h3"), a: n("h2"), b: n("d") },
    ],
    outputs: [{ name: n("x1"), width: 64 }, { name: n("a"), width: 128 }, { name: n("x2"), width: 64 }, { name: n("m"), width: 96 }, { name: n("h3"), width: 64 }],
  };
};

describe("a whole layer", () => {
  it("gives the same bits side by side with others as alone", async () => {
    const alone = await engine.prepare(layer(), weightsOf(layer()));
    const few = await createOnnxEngine({ threads: 3 });
    const beside = [await few.prepare(layer(), weightsOf(layer()), 2), await few.prepare(layer(), weightsOf(layer()), 2), await few.prepare(layer(), weightsOf(layer()))];
    const seeds = [5, 6, 7];
    const outcomes = await Promise.all(beside.map((graph, i) => graph.run({ h: activations(2, 30, 64, seeds[i]) })));
    for (const [i, { inputs, outputs }] of outcomes.entries()) {
      expect(inputs["h"]).toEqual(activations(2, 30, 64, seeds[i]));
      expect(outputs).toEqual((await alone.run({ h: activations(2, 30, 64, seeds[i]) })).outputs);
    }
    await few.close();
    await expect(beside[1].run({ h: activations(2, 30, 64, 5) })).rejects.toThrow("The engine was closed.");
  });

  it("is what plain loops make, its inner values too", () => runBeside(layer(), 3, 17));

  it("gives the same bits for the same input, whatever ran between and whoever else has the same graph", async () => {
    const first = await engine.prepare(layer(), weightsOf(layer()));
    const other = await engine.prepare(layer(".1"), weightsOf(layer(".1")));
    const run = async () => (await first.run({ h: activations(2, 30, 64, 5) })).outputs["h3"].data;
    const before = await run();
    await other.run({ "h.1": activations(2, 31, 64, 6) });
    expect(await run()).toEqual(before);
    const { outputs } = await other.run({ "h.1": activations(2, 30, 64, 5) });
    expect(outputs["h3.1"].data).toEqual(before);
  });
});

describe("memory", () => {
  const double: Graph = single({ op: "add", out: "y", a: "x", b: "x" }, { x: 4 }, {}, 4);

  it("moves the inputs in and gives the same memory back", async () => {
    const prepared = await engine.prepare(double, new Map());
    const x = activations(1, 2, 4, 1);
    const running = prepared.run({ x });
    expect(x.data.length).toBe(0);
    const { inputs, outputs } = await running;
    expect(inputs["x"].data).toEqual(random(8, 1));
    expect(outputs["y"].data).toEqual(random(8, 1).map((v) => 2 * v));
  });

  it("holds later outputs in recycled memory, and overwrites all of it", async () => {
    const prepared = await engine.prepare(double, new Map());
    const old = activations(1, 3, 4, 9);
    engine.recycle(old);
    const { outputs } = await prepared.run({ x: activations(1, 3, 4, 1) });
    expect(old.data.length).toBe(0);
    expect(outputs["y"].data).toEqual(random(12, 1).map((v) => 2 * v));
  });

  it("takes one activation under two names", async () => {
    const prepared = await engine.prepare(single({ op: "mul", out: "y", a: "a", b: "b" }, { a: 4, b: 4 }, {}, 4), new Map());
    const x = activations(1, 2, 4, 1);
    const { outputs } = await prepared.run({ a: x, b: x });
    expect(outputs["y"].data).toEqual(random(8, 1).map((v) => v * v));
  });
});

describe("errors", () => {
  const square: Graph = single({ op: "linear", out: "y", x: "x", weight: "w" }, { x: 4 }, { w: [4, 4] }, 4);

  it("names an input that is missing, of another width or of another length", async () => {
    const prepared = await engine.prepare(square, new Map([["w", random(16)]]));
    await expect(prepared.run({})).rejects.toThrow("The graph's input x is missing.");
    await expect(prepared.run({ x: activations(1, 2, 3, 1) })).rejects.toThrow("The input x is 3 wide instead of 4.");
    await expect(prepared.run({ x: { batch: 1, tokens: 2, width: 4, data: random(9) } })).rejects.toThrow("The input x has 9 values instead of 1·2·4.");
  });

  it("names a weight that is missing", async () => {
    await expect(engine.prepare(square, new Map())).rejects.toThrow("The graph's weight w is missing.");
  });

  it("says that a graph was released", async () => {
    const prepared = await engine.prepare(square, new Map([["w", random(16)]]));
    await prepared.release();
    await prepared.release();
    await expect(prepared.run({ x: activations(1, 1, 4, 1) })).rejects.toThrow("The graph was released.");
  });

  it("hands ONNX Runtime's own message over, and goes on", async () => {
    await expect(engine.prepare(square, new Map([["w", random(15)]]))).rejects.toThrow("Tensor's size(16) does not match data length(15).");
    const prepared = await engine.prepare(square, new Map([["w", random(16)]]));
    expect((await prepared.run({ x: activations(1, 1, 4, 1) })).outputs["y"].data.length).toBe(4);
  });
});
