import type { Activations } from "#src/engine/engine.js";
import type { Graph, GraphNode } from "#src/engine/graph.js";

type Values = ReadonlyMap<string, ArrayLike<number>>;

/** What a graph's outputs are, in plain loops in double precision: slow, and plain enough to be believed. */
export function plainGraph(graph: Graph, weights: ReadonlyMap<string, Float32Array>, inputs: Readonly<Record<string, Activations>>): Record<string, Float64Array> {
  const { batch, tokens } = Object.values(inputs)[0];
  const values = new Map<string, ArrayLike<number>>(weights);
  for (const [name, { data }] of Object.entries(inputs)) values.set(name, data);
  for (const node of graph.nodes) values.set(node.out, evaluate(node, values, batch, tokens));
  return Object.fromEntries(graph.outputs.map(({ name }) => [name, Float64Array.from(values.get(name)!)]));
}

function evaluate(node: GraphNode, values: Values, batch: number, tokens: number): Float64Array {
  const value = (name: string) => values.get(name)!;
  switch (node.op) {
    case "rmsNorm":
    case "headNorm":
      return norm(value(node.x), value(node.weight), node.eps);
    case "linear":
      return linear(value(node.x), value(node.weight), node.bias === undefined ? undefined : value(node.bias), batch * tokens);
    case "attention":
      return attention(node, values, batch, tokens);
    case "add":
      return Float64Array.from(value(node.a), (a, i) => a + value(node.b)[i]);
    case "mul":
      return Float64Array.from(value(node.a), (a, i) => a * value(node.b)[i]);
    case "activation":
      return Float64Array.from(value(node.x), ACTIVATIONS[node.kind]);
  }
}

const ACTIVATIONS = {
  silu: (x: number) => x / (1 + Math.exp(-x)),
  gelu: (x: number) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x: number) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

/** By its Maclaurin series, which is exact enough for |x| < 5. */
function erf(x: number): number {
  let sum = 0;
  for (let n = 0, term = x; n < 120; n++, term *= -(x * x) / n) sum += term / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * sum;
}

function norm(x: ArrayLike<number>, weight: ArrayLike<number>, eps: number): Float64Array {
  const width = weight.length;
  return Float64Array.from(x, (value, i) => {
    const start = i - (i % width);
    let squares = 0;
    for (let j = start; j < start + width; j++) squares += x[j] ** 2;
    return (value / Math.sqrt(squares / width + eps)) * weight[i % width];
  });
}

function linear(x: ArrayLike<number>, weight: ArrayLike<number>, bias: ArrayLike<number> | undefined, rows: number): Float64Array {
  const inWidth = x.length / rows;
  const outWidth = weight.length / inWidth;
  const out = new Float64Array(rows * outWidth);
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outWidth; o++) {
      let sum = bias?.[o] ?? 0;
      for (let i = 0; i < inWidth; i++) sum += x[r * inWidth + i] * weight[o * inWidth + i];
      out[r * outWidth + o] = sum;
    }
  }
  return out;
}

function attention(node: Extract<GraphNode, { op: "attention" }>, values: Values, batch: number, tokens: number): Float64Array {
  const { heads, kvHeads, headDim, scale, window = Infinity } = node;
  const half = headDim / 2;
  const cos = values.get(node.cos)!, sin = values.get(node.sin)!, v = values.get(node.v)!;
  const rotated = (name: string, count: number) => {
    const x = values.get(name)!;
    return Float64Array.from(x, (_, i) => {
      const d = i % headDim, position = Math.floor(i / (count * headDim)) % tokens;
      const c = cos[position * half + (d % half)], s = sin[position * half + (d % half)];
      return d < half ? x[i] * c - x[i + half] * s : x[i] * c + x[i - half] * s;
    });
  };
  const q = rotated(node.q, heads), k = rotated(node.k, kvHeads);
  const out = new Float64Array(batch * tokens * heads * headDim);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const kvHead = Math.floor((h * kvHeads) / heads);
      for (let i = 0; i < tokens; i++) {
        const at = ((b * tokens + i) * heads + h) * headDim;
        const keyAt = (j: number) => ((b * tokens + j) * kvHeads + kvHead) * headDim;
        let total = 0;
        for (let j = 0; j <= i; j++) {
          if (j <= i - window) continue;
          let score = 0;
          for (let d = 0; d < headDim; d++) score += q[at + d] * k[keyAt(j) + d];
          const weight = Math.exp(score * scale);
          total += weight;
          for (let d = 0; d < headDim; d++) out[at + d] += weight * v[keyAt(j) + d];
        }
        for (let d = 0; d < headDim; d++) out[at + d] /= total;
      }
    }
  }
  return out;
}
