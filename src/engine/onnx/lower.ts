import type { OnnxModel, OnnxNode } from "../../onnx/model.js";
import { microsoft, plainNodes } from "../../onnx/operators.js";
import type { Graph, GraphNode } from "../graph.js";
import { attentionNodes, CUTS, makes, POSITIONS } from "./attention.js";

/** What all nodes of a model share: vectors of int64 and scalars of float32, by name. */
export interface Constants {
  readonly constants: Map<string, readonly number[]>;
  readonly scalars: Map<string, number>;
}

/** How the operations that providers of ONNX Runtime compute in ways of their own become nodes. */
export interface Dialect {
  /** The first dimension of activations. */
  readonly batch: "batch" | 1;
  /** What attention in so many pieces takes beside the graph's inputs, and the engine feeds by itself. */
  readonly fed: (pieces: number) => OnnxModel["inputs"];
  readonly linear: (node: NodeOf<"linear">, shared: Constants) => OnnxNode[];
  readonly attention: (node: NodeOf<"attention">, shared: Constants, pieces: number) => OnnxNode[];
}

export type NodeOf<Op extends GraphNode["op"]> = Extract<GraphNode, { op: Op }>;

/** For the CPU's kernels. */
export const CPU_DIALECT: Dialect = {
  batch: "batch",
  fed: (pieces) => [{ name: POSITIONS, type: "float32", shape: ["tokens"] }, ...(pieces > 1 ? [{ name: CUTS, type: "int64" as const, shape: [pieces + 1] }] : [])],
  linear({ out, x, weight, bias }) {
    const product = bias === undefined ? out : `${out}.product`;
    // Unlike Gemm it takes three dimensions, and it is as fast.
    const matmul = { op: "FusedMatMul", ...microsoft, ints: { transB: 1 }, inputs: [x, weight], outputs: [product] };
    return bias === undefined ? [matmul] : [matmul, { op: "Add", inputs: [product, bias], outputs: [out] }];
  },
  // GroupQueryAttention takes three times as long for heads of 64, and one and a half times for 128 (1.30.0, 1,024 tokens, AVX-512).
  attention(node, shared, pieces) {
    shared.constants.set("first position", [0]);
    return attentionNodes(node, shared, pieces, (x, y) => [makes("RotaryEmbedding", [x, "first position", node.cos, node.sin], y, microsoft)]);
  },
};

/**
 * A graph as an ONNX model: activations [batch, tokens, width], with tokens open, and batch where the dialect says so; weights are inputs
 * too, so that one model serves all layers that look alike.
 * @param pieces in which attention goes over the tokens
 */
export function lower(graph: Graph, { batch, fed, linear, attention }: Dialect, pieces: number): OnnxModel {
  const shared: Constants = { constants: new Map(), scalars: new Map() };
  const activation = ({ name, width }: Graph["inputs"][number]) => ({ name, type: "float32" as const, shape: [batch, "tokens", width] });
  return {
    inputs: [
      ...graph.inputs.map(activation),
      ...graph.weights.map(({ name, shape }) => ({ name, type: "float32" as const, shape })),
      ...(attends(graph) ? fed(pieces) : []),
    ],
    outputs: graph.outputs.map(activation),
    nodes: graph.nodes.flatMap((node) => (node.op === "linear" ? linear(node, shared) : node.op === "attention" ? attention(node, shared, pieces) : plainNodes(node, shared.constants))),
    ...shared,
  };
}

/** Whether tokens of a sequence see one another. */
export const attends = (graph: Graph): boolean => graph.nodes.some(({ op }) => op === "attention");
