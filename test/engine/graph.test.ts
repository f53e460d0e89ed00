import { expect, it } from "vitest";
import { sliceOf, type Graph } from "#src/engine/graph.js";

const graph: Graph = {
  inputs: [{ name: "h", width: 4 }, { name: "a", width: 6 }],
  weights: [{ name: "o.weight", shape: [4, 6] }, { name: "norm.weight", shape: [4] }],
  nodes: [
    { op: "linear", out: "o", x: "a", weight: "o.weight" },
    { op: "add", out: "r", a: "h", b: "o" },
    { op: "rmsNorm", out: "x", x: "r", weight: "norm.weight", eps: 1e-6 },
  ],
  outputs: [{ name: "r", width: 4 }, { name: "x", width: 4 }],
};

it("takes from a graph what makes one value of those that are known", () => {
  expect(sliceOf(graph, ["r"], "x")).toEqual({ inputs: [{ name: "r", width: 4 }], weights: [graph.weights[1]], nodes: [graph.nodes[2]], outputs: [{ name: "x", width: 4 }] });
  expect(sliceOf(graph, ["h", "a"], "r")).toEqual({ inputs: graph.inputs, weights: [graph.weights[0]], nodes: graph.nodes.slice(0, 2), outputs: [{ name: "r", width: 4 }] });
  expect(sliceOf(graph, ["h", "a"], "a").nodes).toEqual([]);
});
