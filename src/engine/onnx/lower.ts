import type { OnnxModel, OnnxNode } from "../../onnx/model.js";
import { microsoft, plainNodes } from "../../onnx/operators.js";
import type { Graph, GraphNode } from "../graph.js";

/** What all nodes of a model share: vectors of int64 and scalars of float32, by name. */
export interface Constants {
  readonly constants: Map<string, readonly number[]>;
  readonly scalars: Map<string, number>;
}

/** How the operations that providers of ONNX Runtime compute in ways of their own become nodes. */
export interface Dialect {
  /** The first dimension of activations. */
  readonly batch: "batch" | 1;
  /** What attention takes beside the graph's inputs, and the engine feeds by itself. */
  readonly fed: OnnxModel["inputs"];
  readonly linear: (node: NodeOf<"linear">, shared: Constants) => OnnxNode[];
  readonly attention: (node: NodeOf<"attention">, shared: Constants) => OnnxNode[];
}

export type NodeOf<Op extends GraphNode["op"]> = Extract<GraphNode, { op: Op }>;

/** Names of what is fed for attention on the CPU: total length of each sequence − 1 [batch], and the longest [1]. */
export const LAST_POSITIONS = "lastPositions";
export const TOTAL_LENGTH = "totalLength";

/** For the CPU's kernels. */
export const CPU_DIALECT: Dialect = {
  batch: "batch",
  fed: [{ name: LAST_POSITIONS, type: "int32", shape: ["batch"] }, { name: TOTAL_LENGTH, type: "int32", shape: [1] }],
  linear({ out, x, weight, bias }) {
    const product = bias === undefined ? out : `${out}.product`;
    // Unlike Gemm it takes three dimensions, and it is as fast.
    const matmul = { op: "FusedMatMul", ...microsoft, ints: { transB: 1 }, inputs: [x, weight], outputs: [product] };
    return bias === undefined ? [matmul] : [matmul, { op: "Add", inputs: [product, bias], outputs: [out] }];
  },
  attention: (node, { constants }) => (node.headDim % HEAD_MULTIPLE === 0 ? [attention(node)] : paddedAttention(node, constants)),
};

/**
 * A graph as an ONNX model: activations [batch, tokens, width], with tokens open, and batch where the dialect says so; weights are inputs
 * too, so that one model serves all layers that look alike.
 */
export function lower(graph: Graph, { batch, fed, linear, attention: attend }: Dialect = CPU_DIALECT): OnnxModel {
  const shared: Constants = { constants: new Map(), scalars: new Map() };
  const activation = ({ name, width }: Graph["inputs"][number]) => ({ name, type: "float32" as const, shape: [batch, "tokens", width] });
  return {
    inputs: [
      ...graph.inputs.map(activation),
      ...graph.weights.map(({ name, shape }) => ({ name, type: "float32" as const, shape })),
      ...(attends(graph) ? fed : []),
    ],
    outputs: graph.outputs.map(activation),
    nodes: graph.nodes.flatMap((node) => (node.op === "linear" ? linear(node, shared) : node.op === "attention" ? attend(node, shared) : plainNodes(node, shared.constants))),
    ...shared,
  };
}

/** Whether tokens of a sequence see one another. */
export const attends = (graph: Graph): boolean => graph.nodes.some(({ op }) => op === "attention");

// GroupQueryAttention takes only such head sizes.
const HEAD_MULTIPLE = 16;

const attention = ({ out, q, k, v, cos, sin, heads, kvHeads, window, scale }: NodeOf<"attention">): OnnxNode => ({
  op: "GroupQueryAttention", ...microsoft,
  inputs: [q, k, v, "", "", LAST_POSITIONS, TOTAL_LENGTH, cos, sin],
  outputs: [out, `${out}.keys`, `${out}.values`],
  ints: { num_heads: heads, kv_num_heads: kvHeads, do_rotary: 1, local_window_size: window ?? -1 },
  floats: { scale },
});

/**
 * Attention for other head sizes: both halves of every head, which the rotary embedding pairs, are made longer with zeros, and
 * cut again at the end. Only small models have such heads, so its cost is of no matter.
 */
function paddedAttention(node: NodeOf<"attention">, constants: Map<string, readonly number[]>): OnnxNode[] {
  const { out, headDim } = node;
  const half = headDim / 2;
  const more = (HEAD_MULTIPLE - (headDim % HEAD_MULTIPLE)) / 2;
  const name = (part: string): string => `${out}.${part}`;
  constants
    .set(name("halves"), [0, 0, -1, half]).set(name("longHalves"), [0, 0, -1, half + more]).set(name("join"), [0, 0, -1])
    .set(name("more"), [0, more]).set(name("zero"), [0]).set(name("half"), [half]).set(name("lastAxis"), [-1]);
  const pad = (x: string, padded: string): OnnxNode => ({ op: "Pad", inputs: [x, name("more"), "", name("lastAxis")], outputs: [padded] });
  const padHeads = (x: string, part: string): OnnxNode[] => [
    { op: "Reshape", inputs: [x, name("halves")], outputs: [name(`${part}.halves`)] },
    pad(name(`${part}.halves`), name(`${part}.padded`)),
    { op: "Reshape", inputs: [name(`${part}.padded`), name("join")], outputs: [name(part)] },
  ];
  return [
    ...padHeads(node.q, "q"), ...padHeads(node.k, "k"), ...padHeads(node.v, "v"), pad(node.cos, name("cos")), pad(node.sin, name("sin")),
    attention({ ...node, out: name("long"), q: name("q"), k: name("k"), v: name("v"), cos: name("cos"), sin: name("sin") }),
    { op: "Reshape", inputs: [name("long"), name("longHalves")], outputs: [name("long.halves")] },
    { op: "Slice", inputs: [name("long.halves"), name("zero"), name("half"), name("lastAxis")], outputs: [name("short.halves")] },
    { op: "Reshape", inputs: [name("short.halves"), name("join")], outputs: [out] },
  ];
}
