import { expect, it, vi } from "vitest";
import type { Activations, Engine } from "#src/engine/engine.js";
import type { Stage, WeightSource } from "#src/model/decoder.js";
import { carryOn, embed, runStages } from "#src/model/forward.js";
import { capLogits } from "#src/model/head.js";
import { weightsOf } from "#src/model/weights.js";

const activations = (...values: number[]): Activations => ({ batch: 1, tokens: 1, width: values.length, data: Float32Array.from(values) });

const stage: Stage = {
  name: "a stage",
  graph: {
    inputs: [{ name: "h", width: 2 }], outputs: [{ name: "x", width: 2 }], nodes: [],
    weights: [{ name: "norm", shape: [2] }, { name: "plain", shape: [2] }, { name: "cos", shape: [3, 1] }],
  },
  weights: new Map<string, WeightSource>([
    ["norm", { tensor: "t.norm", plus: 1 }],
    ["plain", { tensor: "t.plain" }],
    ["cos", { table: (positions) => new Float32Array(positions).fill(7) }],
  ]),
  linears: [],
  carry: ["x"],
};
const readTensor = (name: string) => Promise.resolve(Float32Array.of(name.length, 0.5));

it("binds tensors, with what is added to them, and tables as long as the graph asks", async () => {
  expect(await weightsOf(stage, readTensor)).toEqual(new Map([
    ["norm", Float32Array.of(7, 1.5)], ["plain", Float32Array.of(7, 0.5)], ["cos", Float32Array.of(7, 7, 7)],
  ]));
});

/** An engine whose graphs double `h`; it records what it got. */
function doubling() {
  const released = vi.fn(() => Promise.resolve());
  const recycle = vi.fn();
  const engine = {
    recycle,
    prepare: () => Promise.resolve({
      run: ({ h }: Record<string, Activations>) => {
        if (Number.isNaN(h.data[0])) return Promise.reject(new Error("it is NaN"));
        return Promise.resolve({ inputs: { h: h }, outputs: { x: { ...h, data: h.data.map((value) => 2 * value) } } });
      },
      release: released,
    }),
  } as unknown as Engine;
  return { engine, released, recycle };
}

it("runs hidden states one by one, gives back what does not live on, and frees the graphs", async () => {
  const { engine, released, recycle } = doubling();
  const inputs = [activations(1, 2), activations(3, 4)];
  const got: Activations[] = [];
  for await (const h of runStages(engine, [stage], readTensor, inputs)) got.push(h);
  expect(got).toEqual([activations(2, 4), activations(6, 8)]);
  expect(recycle.mock.calls).toEqual(inputs.map((h) => [h]));
  expect(released).toHaveBeenCalledOnce();
});

it("frees the graphs when a run fails, and when its reader stops early", async () => {
  const failing = doubling();
  await expect(runStages(failing.engine, [stage], readTensor, [activations(NaN)]).next()).rejects.toThrow("it is NaN");
  expect(failing.released).toHaveBeenCalledOnce();

  const stopped = doubling();
  for await (const h of runStages(stopped.engine, [stage], readTensor, [activations(1), activations(2)])) {
    expect(h).toEqual(activations(2));
    break;
  }
  expect(stopped.released).toHaveBeenCalledOnce();
});

it("keeps the inputs and outputs that a stage carries", () => {
  const { engine, recycle } = doubling();
  const ran = { inputs: { h: activations(1), a: activations(2) }, outputs: { r: activations(3), x: activations(4) } };
  expect(carryOn(engine, { ...stage, carry: ["a", "x"] }, ran)).toEqual({ a: activations(2), x: activations(4) });
  expect(recycle.mock.calls).toEqual([[activations(1)], [activations(3)]]);
});

it("embeds tokens as scaled rows", () => {
  const row = (token: number, into: Float32Array) => into.set([token, -token]);
  expect(embed([[1, 2, 3], [4, 5, 6]], 2, 0.5, row)).toEqual({
    batch: 2, tokens: 3, width: 2, data: Float32Array.of(0.5, -0.5, 1, -1, 1.5, -1.5, 2, -2, 2.5, -2.5, 3, -3),
  });
  expect(() => embed([[1, 2], [3]], 2, 1, row)).toThrow(new RangeError("sequences of 2 and of 1 tokens in one batch"));
});

it("caps logits only where there is a cap", () => {
  const logits = Float32Array.of(-100, 0, 1.5);
  capLogits(logits, undefined);
  expect(logits).toEqual(Float32Array.of(-100, 0, 1.5));
  capLogits(logits, 3);
  expect(logits).toEqual(Float32Array.of(-3, 0, 3 * Math.tanh(0.5)));
});
