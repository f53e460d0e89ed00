import { describe, expect, it } from "vitest";
import { decoderOf } from "#src/model/decoder-of.js";
import { changed, FIXTURES, readJson, readTensors } from "./golden.js";

const families = ["llama", "llama-biases", "mistral", "qwen2", "qwen3", "gemma3-text"];

describe.each(families)("%s", (family) => {
  const decoder = decoderOf(readJson(`${FIXTURES}${family}/config.json`), "config.json");

  it("each stage hands the next one its inputs, and every linear is quantized once and used by the next stage", () => {
    const stages = decoder.stages(1, 40);
    expect(stages.map(({ name }) => name)).toEqual(["attention in", "attention out", "mlp in", "mlp out", "end"]);
    expect(stages[0].graph.inputs).toEqual([{ name: "h", width: decoder.hiddenSize }]);
    stages.forEach((stage, i) => {
      const available = new Map([...stage.graph.inputs, ...stage.graph.outputs].map(({ name, width }) => [name, width]));
      const carried = stage.carry.map((name) => ({ name, width: available.get(name) }));
      const next = stages[(i + 1) % stages.length];
      expect(carried).toEqual(next.graph.inputs);
      for (const linear of stage.linears) {
        expect(linear.inFeatures).toBe(available.get(stage.x!));
        const used = [...next.weights].find(([, source]) => "tensor" in source && source.tensor === `${linear.name}.weight`);
        expect(next.graph.weights.find(({ name }) => name === used?.[0])?.shape).toEqual([linear.outFeatures, linear.inFeatures]);
      }
    });
  });

  it("names no value of a graph twice, and only values and weights that are there", () => {
    for (const { graph, weights } of decoder.stages(0, 40)) {
      const named = new Set([...graph.inputs, ...graph.weights].map(({ name }) => name));
      expect(named.size).toBe(graph.inputs.length + graph.weights.length);
      expect([...weights.keys()]).toEqual(graph.weights.map(({ name }) => name));
      for (const { op, out, ...rest } of graph.nodes) {
        for (const [field, name] of Object.entries(rest)) if (typeof name === "string" && field !== "kind") expect(named, op).toContain(name);
        expect(named).not.toContain(out);
        named.add(out);
      }
      for (const { name } of graph.outputs) expect(named).toContain(name);
    }
  });

  it("its layers' tensors are those that transformers saved", () => {
    const saved = [...readTensors(`${FIXTURES}${family}/model.safetensors`).keys()].filter((name) => name.startsWith("model.layers."));
    const ours = Array.from({ length: decoder.layers }, (_, layer) => decoder.tensorsOf(layer)).flat();
    expect(ours.toSorted()).toEqual(saved.toSorted());
  });
});

it("layers of one kind are one graph", () => {
  const decoder = decoderOf(readJson(`${FIXTURES}gemma3-text/config.json`), "config.json");
  const graphs = (layer: number) => decoder.stages(layer, 40).map(({ graph }) => graph);
  expect(graphs(2)).toEqual(graphs(0));
  expect(graphs(1)).not.toEqual(graphs(0));
});

it("a layer that is not there is an error", () => {
  const decoder = decoderOf(changed(readJson(`${FIXTURES}llama/config.json`), {}), "config.json");
  expect(() => decoder.stages(2, 40)).toThrow(new RangeError("there is no layer 2: the model has 2"));
});
