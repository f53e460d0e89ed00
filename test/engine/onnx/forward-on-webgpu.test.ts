import { afterAll, beforeAll, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import type { Activations, Engine } from "#src/engine/engine.js";
import type { Graph } from "#src/engine/graph.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { forwardOnWebGpu, type ForwardOptions } from "#src/engine/onnx/forward-on-webgpu.js";
import { describeGpu } from "../gpu/adapter-for-tests.js";
import { plainGraph } from "../plain-graph.js";
import { random, relativeError } from "../random.js";

/** Every operation that there is; heads share keys, tokens see eleven of those before them. */
const LAYER: Graph = {
  inputs: [{ name: "h", width: 24 }],
  weights: [
    { name: "norm", shape: [24] }, { name: "q.w", shape: [32, 24] }, { name: "q.b", shape: [32] }, { name: "k.w", shape: [16, 24] }, { name: "v.w", shape: [16, 24] },
    { name: "qn", shape: [8] }, { name: "cos", shape: [48, 4] }, { name: "sin", shape: [48, 4] }, { name: "o.w", shape: [24, 32] },
  ],
  nodes: [
    { op: "rmsNorm", out: "x", x: "h", weight: "norm", eps: 1e-5 },
    { op: "linear", out: "q0", x: "x", weight: "q.w", bias: "q.b" },
    { op: "headNorm", out: "q", x: "q0", weight: "qn", heads: 4, eps: 1e-6 },
    { op: "linear", out: "k", x: "x", weight: "k.w" },
    { op: "linear", out: "v", x: "x", weight: "v.w" },
    { op: "attention", out: "a", q: "q", k: "k", v: "v", cos: "cos", sin: "sin", heads: 4, kvHeads: 2, headDim: 8, scale: 0.6 },
    { op: "attention", out: "w", q: "q", k: "k", v: "v", cos: "cos", sin: "sin", heads: 4, kvHeads: 2, headDim: 8, scale: 0.6, window: 11 },
    { op: "add", out: "aw", a: "a", b: "w" },
    { op: "linear", out: "o", x: "aw", weight: "o.w" },
    ...(["silu", "gelu", "gelu_tanh"] as const).map((kind) => ({ op: "activation" as const, out: kind, x: "o", kind })),
    { op: "mul", out: "m", a: "silu", b: "gelu" },
    { op: "add", out: "y", a: "m", b: "gelu_tanh" },
  ],
  outputs: [{ name: "x", width: 24 }, { name: "a", width: 32 }, { name: "w", width: 32 }, { name: "y", width: 24 }],
};

const SQUARE: Graph = { inputs: [{ name: "x", width: 4 }], weights: [{ name: "w", shape: [4, 4] }], nodes: [{ op: "linear", out: "y", x: "x", weight: "w" }], outputs: [{ name: "y", width: 4 }] };

// Small enough for the plain erf.
const weightsOf = (graph: Graph): Map<string, Float32Array<ArrayBuffer>> =>
  new Map(graph.weights.map(({ name, shape }, i) => [name, random(shape.reduce((a, b) => a * b, 1), 100 + i).map((value) => (name === "o.w" ? value / 8 : value))]));
const activations = (batch: number, tokens: number, width: number): Activations => ({ batch, tokens, width, data: random(batch * tokens * width, 1) });

describeGpu("a forward pass on WebGPU", () => {
  let cpu: Engine;
  const made: Engine[] = [];
  const on = async (engine: Engine, options: Partial<ForwardOptions> = {}): Promise<Engine> => {
    const forward = await forwardOnWebGpu(engine, { gpu: "the GPU", ...options });
    made.push(forward);
    return forward;
  };
  beforeAll(async () => {
    cpu = await createOnnxEngine({ threads: 1 });
  });
  afterAll(async () => { for (const engine of made) await engine.close(); });

  it("is what plain loops make, in every operation; weights are on the GPU once", async () => {
    const engine = await on(cpu);
    expect(engine.description).toBe(`${cpu.description}; forward pass by ONNX Runtime's WebGPU provider`);
    const prepared = await engine.prepare(LAYER, weightsOf(LAYER));
    for (const [batch, tokens] of [[1, 40], [2, 40]]) {
      const { inputs, outputs, device, trouble } = await prepared.run({ h: activations(batch, tokens, 24) });
      expect([device, trouble]).toEqual(["the GPU", undefined]);
      expect(inputs["h"]).toEqual(activations(batch, tokens, 24));
      const expected = plainGraph(LAYER, weightsOf(LAYER), inputs);
      for (const { name, width } of LAYER.outputs) {
        expect(outputs[name]).toMatchObject({ batch, tokens, width });
        expect(relativeError(outputs[name].data, expected[name])).toBeLessThan(2e-6);
        engine.recycle(outputs[name]);
      }
    }
    const values = (lists: readonly number[]): number => lists.reduce((a, b) => a + b, 0);
    const weights = values(LAYER.weights.map(({ shape }) => shape.reduce((a, b) => a * b, 1)));
    const widths = values([...LAYER.inputs, ...LAYER.outputs].map(({ width }) => width));
    // One sequence at a time; its positions and their number beside it.
    expect(await engine.deviceMemory()).toBe(4 * (weights + 40 * (widths + 1) + 1));
    await prepared.release();
  });

  it("is the CPU's where it is wrong, for such graphs, and where it fails, for all", async () => {
    // A CPU that computes something else is as good as a GPU that does.
    const engine = await on({ ...cpu, prepare: (graph, weights) => cpu.prepare(graph, new Map([...weights].map(([name, values]) => [name, values.map((value) => value * 1.001)]))) });
    const run = async (size: number, x = activations(1, 2, 4)) => {
      const graph = { ...SQUARE, weights: [{ name: "w", shape: [size, 4] }], outputs: [{ name: "y", width: size }] };
      const { outputs, device, trouble } = await (await engine.prepare(graph, weightsOf(graph))).run({ x });
      return [device, outputs["y"].data.length, trouble];
    };
    expect(await run(4)).toEqual(["CPU", 8, expect.stringMatching(/^the GPU failed: its values are off by (9\.9|1\.0)e-[34] of the largest; the forward pass goes on without it$/)]);
    expect(await run(4)).toEqual(["CPU", 8, undefined]);
    expect(await run(3, { ...activations(1, 2, 4), data: new Float32Array(8).fill(NaN) })).toEqual(["CPU", 6, "the GPU failed: it left NaN or infinity in y; the forward pass goes on without it"]);
    expect(await run(2)).toEqual(["CPU", 4, undefined]);
  });

  it("ends the run where that is wished", async () => {
    const engine = await on(cpu, { strict: true });
    const prepared = await engine.prepare(SQUARE, weightsOf(SQUARE));
    const failing = prepared.run({ x: { ...activations(1, 1, 4), data: Float32Array.of(1, Infinity, 0, 0) } });
    await expect(failing).rejects.toThrow(InputError);
    await expect(failing).rejects.toThrow("the GPU failed: it left NaN or infinity in y. Without --no-fallback the CPU would go on in its place");
  });

  it("names inputs that are missing or of another width, as on the CPU", async () => {
    const prepared = await (await on(cpu)).prepare(SQUARE, weightsOf(SQUARE));
    await expect(prepared.run({})).rejects.toThrow("The graph's input x is missing.");
    await expect(prepared.run({ x: activations(1, 2, 3) })).rejects.toThrow("The input x is 3 wide instead of 4.");
  });
});
