import type { OnnxNode } from "../../onnx/model.js";
import { attentionNodes, makes, POSITIONS } from "./attention.js";
import type { Constants, Dialect, NodeOf } from "./lower.js";

/** What is fed for attention beside the positions: how many there are [1]. */
export const LENGTH = "length";

/**
 * For ONNX Runtime's WebGPU provider, of operators that it has and computes right. Version 1.30.0 has no FusedMatMul, and its GroupQueryAttention is
 * wrong (by a quarter of the largest value, from 32 tokens on, seen on SwiftShader).
 * Activations are [1, tokens, width]: where tokens see one another, one sequence at a time.
 */
export const WEBGPU_DIALECT: Dialect = {
  batch: 1,
  fed: () => [{ name: POSITIONS, type: "float32", shape: ["tokens"] }, { name: LENGTH, type: "int64", shape: [1] }],
  linear({ out, x, weight, bias }, { constants }) {
    constants.set("first", [0]);
    return [
      { op: "Squeeze", inputs: [x, "first"], outputs: [`${out}.x`] },
      { op: "Gemm", ints: { transB: 1 }, inputs: [`${out}.x`, weight, ...(bias === undefined ? [] : [bias])], outputs: [`${out}.y`] },
      { op: "Unsqueeze", inputs: [`${out}.y`, "first"], outputs: [out] },
    ];
  },
  attention,
};

/** In one piece. */
function attention(node: NodeOf<"attention">, shared: Constants): OnnxNode[] {
  const { out, cos, sin } = node;
  shared.constants.set(`${out}.rows`, [0]);
  const table = (weight: string, y: string): OnnxNode => makes("Slice", [weight, `${out}.rows`, LENGTH, `${out}.rows`], y);
  const rotated = (x: string, y: string): OnnxNode[] => [
    { op: "Split", inputs: [x], outputs: [`${x}.a`, `${x}.b`], ints: { axis: -1, num_outputs: 2 } },
    ...["a", "b"].flatMap((half) => ["cos", "sin"].map((wave) => makes("Mul", [`${x}.${half}`, `${out}.${wave}`], `${x}.${half}.${wave}`))),
    makes("Sub", [`${x}.a.cos`, `${x}.b.sin`], `${x}.first`), makes("Add", [`${x}.b.cos`, `${x}.a.sin`], `${x}.second`),
    makes("Concat", [`${x}.first`, `${x}.second`], y, { ints: { axis: -1 } }),
  ];
  return [table(cos, `${out}.cos`), table(sin, `${out}.sin`), ...attentionNodes(node, shared, 1, rotated)];
}
