/**
 * A stage of a decoder as a list of operations, in order, on named values. Every activation is float32
 * [batch, tokens, width]; weights are float32 and named. It knows no engine: `engine/onnx` runs it as an ONNX model.
 */
export interface Graph {
  /** Activations that come in, with their width. */
  readonly inputs: readonly GraphValue[];
  /** Weights that are bound when the graph is prepared, with their shapes. */
  readonly weights: readonly GraphWeight[];
  readonly nodes: readonly GraphNode[];
  /** Activations that go out, with their width. */
  readonly outputs: readonly GraphValue[];
}

export interface GraphValue {
  readonly name: string;
  readonly width: number;
}

export interface GraphWeight {
  readonly name: string;
  readonly shape: readonly number[];
}

/** `out` names what the operation makes; the other strings name values or weights that it takes. */
export type GraphNode =
  /** x / √(mean(x²) + eps) · weight over the last axis; weight [width]. Any "1 + w" is already in the weight. */
  | { readonly op: "rmsNorm"; readonly out: string; readonly x: string; readonly weight: string; readonly eps: number }
  /** The same over each head's slice of x [batch, tokens, heads·headDim]; weight [headDim]. */
  | { readonly op: "headNorm"; readonly out: string; readonly x: string; readonly weight: string; readonly heads: number; readonly eps: number }
  /** x · weightᵀ + bias; weight [outWidth, inWidth], bias [outWidth]. */
  | { readonly op: "linear"; readonly out: string; readonly x: string; readonly weight: string; readonly bias?: string }
  /**
   * Causal self-attention with rotary embedding of q and k (halves rotated, as in Hugging Face's Llama).
   * q [.., heads·headDim], k and v [.., kvHeads·headDim]; cos and sin are weights [positions, headDim / 2].
   * `window`: how many positions each token sees, itself included; absent: all before it.
   */
  | {
      readonly op: "attention"; readonly out: string; readonly q: string; readonly k: string; readonly v: string;
      readonly cos: string; readonly sin: string; readonly heads: number; readonly kvHeads: number; readonly headDim: number;
      readonly scale: number; readonly window?: number;
    }
  | { readonly op: "add"; readonly out: string; readonly a: string; readonly b: string }
  | { readonly op: "mul"; readonly out: string; readonly a: string; readonly b: string }
  | { readonly op: "activation"; readonly out: string; readonly x: string; readonly kind: Activation };

/** `gelu` is the exact one, `gelu_tanh` the approximation that Hugging Face calls gelu_pytorch_tanh. */
export type Activation = "silu" | "gelu" | "gelu_tanh";

// The fields of a node that name values; the rest are numbers and kinds.
const NAMES = ["out", "x", "weight", "bias", "q", "k", "v", "cos", "sin", "a", "b"];

/** The same operation on other names. */
export function renamed<N extends GraphNode>(node: N, nameOf: (name: string) => string): N {
  return Object.fromEntries(Object.entries(node).map(([field, value]) => [field, NAMES.includes(field) ? nameOf(value as string) : value])) as N;
}

/** The part of a graph that makes one value from others that are known, which become its inputs: empty where the value is among them. */
export function sliceOf(graph: Graph, known: readonly string[], wanted: string): Graph {
  const needed = new Set([wanted]);
  const nodes: GraphNode[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!needed.has(node.out) || known.includes(node.out)) continue;
    nodes.unshift(node);
    for (const [field, value] of Object.entries(node)) if (NAMES.includes(field)) needed.add(value as string);
  }
  const values = [...graph.inputs, ...graph.outputs].filter(({ name }, i, all) => needed.has(name) && all.findIndex((other) => other.name === name) === i);
  return {
    inputs: values.filter(({ name }) => known.includes(name)),
    weights: graph.weights.filter(({ name }) => needed.has(name)),
    nodes,
    outputs: values.filter(({ name }) => name === wanted),
  };
}
