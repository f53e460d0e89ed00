import type { OnnxNode } from "../../onnx/model.js";
import type { Constants, Dialect, NodeOf } from "./lower.js";

/** Names of what is fed for attention: the positions 0, 1, … as floats [tokens], and how many there are [1]. */
export const POSITIONS = "positions";
export const LENGTH = "length";

/** Added to scores of tokens that are not seen, for each position that they are out of sight: no more than float32 holds for any length. */
const UNSEEN = -1e30;

/**
 * For ONNX Runtime's WebGPU provider, of operators that it has and computes right. Version 1.30.0 has no FusedMatMul, and its GroupQueryAttention is
 * wrong (by a quarter of the largest value, from 32 tokens on, seen on SwiftShader): attention is put together of products and a softmax.
 * Activations are [1, tokens, width]: where tokens see one another, one sequence at a time.
 */
export const WEBGPU_DIALECT: Dialect = {
  batch: 1,
  fed: [{ name: POSITIONS, type: "float32", shape: ["tokens"] }, { name: LENGTH, type: "int64", shape: [1] }],
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

/** Heads are an axis of their own, [1, heads, tokens, headDim]. Heads that share a key stand below one another in the product with it: [1, kvHeads, shared · tokens, headDim]. */
function attention(node: NodeOf<"attention">, { constants, scalars }: Constants): OnnxNode[] {
  const { out, heads, kvHeads, scale, window } = node;
  const name = (part: string): string => `${out}.${part}`;
  const constant = (part: string, values: readonly number[]): string => (constants.set(name(part), values), name(part));
  const scalar = (part: string, value: number): string => (scalars.set(name(part), value), name(part));
  const does = (op: string, inputs: readonly string[], output: string, more: Partial<OnnxNode> = {}): OnnxNode => ({ op, inputs, outputs: [output], ...more });
  const transposed = (x: string, perm: readonly number[], y: string): OnnxNode => does("Transpose", [x], y, { lists: { perm } });
  const reshaped = (x: string, shape: readonly number[], y: string): OnnxNode => does("Reshape", [x, constant(`${y}.shape`, shape)], y);

  const byHead = (x: string, count: number, part: string): OnnxNode[] => [
    reshaped(x, [0, 0, count, -1], name(`${part}.split`)),
    transposed(name(`${part}.split`), [0, 2, 1, 3], name(part)),
  ];
  const rotated = (part: string): OnnxNode[] => [
    { op: "Split", inputs: [name(part)], outputs: [name(`${part}.a`), name(`${part}.b`)], ints: { axis: -1, num_outputs: 2 } },
    ...["a", "b"].flatMap((half) => ["cos", "sin"].map((table) => does("Mul", [name(`${part}.${half}`), name(table)], name(`${part}.${half}.${table}`)))),
    does("Sub", [name(`${part}.a.cos`), name(`${part}.b.sin`)], name(`${part}.first`)),
    does("Add", [name(`${part}.b.cos`), name(`${part}.a.sin`)], name(`${part}.second`)),
    does("Concat", [name(`${part}.first`), name(`${part}.second`)], name(`${part}.rotated`), { ints: { axis: -1 } }),
  ];
  const rows = constant("rows", [0]), columns = constant("columns", [1]);
  const table = (weight: string, part: string): OnnxNode => does("Slice", [weight, rows, LENGTH, rows], name(part));
  // How far a column's token lies ahead of a row's, and how far behind what its row sees.
  const unseen = (distance: string, part: string): OnnxNode[] => [does("Relu", [distance], name(`${part}.far`)), does("Mul", [name(`${part}.far`), scalar("unseen", UNSEEN)], name(part))];
  const future = [does("Unsqueeze", [POSITIONS, columns], name("row")), does("Sub", [POSITIONS, name("row")], name("ahead")), ...unseen(name("ahead"), "future")];
  const past = window === undefined ? [] : [
    does("Sub", [name("row"), POSITIONS], name("behind")), does("Sub", [name("behind"), scalar("window", window - 1)], name("beyond")), ...unseen(name("beyond"), "past"),
    does("Add", [name("future"), name("past")], name("mask")),
  ];
  return [
    table(node.cos, "cos"), table(node.sin, "sin"),
    ...byHead(node.q, heads, "q"), ...rotated("q"), does("Mul", [name("q.rotated"), scalar("scale", scale)], name("q.scaled")), reshaped(name("q.scaled"), [0, kvHeads, -1, 0], name("queries")),
    ...byHead(node.k, kvHeads, "k"), ...rotated("k"), transposed(name("k.rotated"), [0, 1, 3, 2], name("keys")),
    ...byHead(node.v, kvHeads, "v"),
    ...future, ...past,
    does("MatMul", [name("queries"), name("keys")], name("products")), reshaped(name("products"), [0, heads, -1, 0], name("scores")),
    does("Add", [name("scores"), name(window === undefined ? "future" : "mask")], name("seen")), does("Softmax", [name("seen")], name("shares"), { ints: { axis: -1 } }),
    reshaped(name("shares"), [0, kvHeads, -1, 0], name("shares.shared")), does("MatMul", [name("shares.shared"), name("v")], name("sums")),
    reshaped(name("sums"), [0, heads, -1, 0], name("heads")), transposed(name("heads"), [0, 2, 1, 3], name("joined")), reshaped(name("joined"), [0, 0, -1], out),
  ];
}
