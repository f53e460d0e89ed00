import type { OnnxNode } from "../../onnx/model.js";
import type { Constants, NodeOf } from "./lower.js";

/** Names of what is fed for attention: the positions 0, 1, … as floats [tokens] and, where it goes in pieces, where these begin and end [pieces + 1]. */
export const POSITIONS = "positions";
export const CUTS = "cuts";

/** Added to scores of tokens that are not seen, for each position that they are out of sight: no more than float32 holds for any length. */
const UNSEEN = -1e30;

/** Tokens whose scores are computed together, at least: few, so that they stay in a cache, and enough for products to be fast. */
const ROWS = 64;

/** In how many pieces attention is to go over `tokens` tokens: a power of two, so that few models serve all lengths. */
export const piecesOf = (tokens: number): number => 2 ** Math.max(0, Math.floor(Math.log2(tokens / ROWS)));

/** Where `pieces` pieces of `tokens` tokens begin and end. */
export const cutsOf = (tokens: number, pieces: number): BigInt64Array<ArrayBuffer> => BigInt64Array.from({ length: pieces + 1 }, (_, i) => BigInt(Math.floor((i * tokens) / pieces)));

/** 0, 1, … for `tokens` tokens. */
export const positionsOf = (tokens: number): Float32Array<ArrayBuffer> => Float32Array.from({ length: tokens }, (_, i) => i);

/** A node of one output. */
export const makes = (op: string, inputs: readonly string[], output: string, more: Partial<OnnxNode> = {}): OnnxNode => ({ op, inputs, outputs: [output], ...more });

/**
 * Attention put together of products and a softmax. Heads are an axis of their own, [batch, heads, tokens, headDim]; heads that share a key stand below one
 * another in the product with it: [batch, kvHeads, shared · tokens, headDim]. It goes over the tokens in pieces, each with no more keys than its last token
 * sees: half of the scores are never made, and the rest not kept.
 * @param rotated makes `y`, the rotary embedding of x [batch, heads, tokens, headDim]
 */
export function attentionNodes(node: NodeOf<"attention">, { constants, scalars }: Constants, pieces: number, rotated: (x: string, y: string) => readonly OnnxNode[]): OnnxNode[] {
  const { out, heads, kvHeads, scale, window } = node;
  const name = (part: string): string => `${out}.${part}`;
  const constant = (part: string, values: readonly number[]): string => (constants.set(name(part), values), name(part));
  const scalar = (part: string, value: number): string => (scalars.set(name(part), value), name(part));
  const transposed = (x: string, perm: readonly number[], y: string): OnnxNode => makes("Transpose", [x], y, { lists: { perm } });
  const reshaped = (x: string, shape: readonly number[], y: string): OnnxNode => makes("Reshape", [x, constant(`shape ${shape.join(" ")}`, shape)], y);
  const byHead = (x: string, count: number, y: string): OnnxNode[] => [reshaped(x, [0, 0, count, -1], `${y}.split`), transposed(`${y}.split`, [0, 2, 1, 3], y)];
  const zero = constant("zero", [0]), one = constant("one", [1]), two = constant("two", [2]), three = constant("three", [3]);
  // How far a column's token lies ahead of a row's, and how far behind what its row sees.
  const unseen = (distance: string, y: string): OnnxNode[] => [makes("Relu", [distance], `${y}.far`), makes("Mul", [`${y}.far`, scalar("unseen", UNSEEN)], y)];

  /** What becomes of `queries` [.., tokens of the piece, ..], at `positions`, that see no more than `keys`, at `seen`. */
  const piece = (of: (part: string) => string, queries: string, keys: string, values: string, positions: string, seen: string): OnnxNode[] => [
    makes("Unsqueeze", [positions, one], of("row")), makes("Sub", [seen, of("row")], of("ahead")), ...unseen(of("ahead"), of("future")),
    ...(window === undefined ? [] : [
      makes("Sub", [of("row"), seen], of("behind")), makes("Sub", [of("behind"), scalar("window", window - 1)], of("beyond")), ...unseen(of("beyond"), of("past")),
      makes("Add", [of("future"), of("past")], of("mask")),
    ]),
    reshaped(queries, [0, kvHeads, -1, 0], of("shared")), makes("MatMul", [of("shared"), keys], of("products")), reshaped(of("products"), [0, heads, -1, 0], of("scores")),
    makes("Add", [of("scores"), of(window === undefined ? "future" : "mask")], of("visible")), makes("Softmax", [of("visible")], of("shares"), { ints: { axis: -1 } }),
    reshaped(of("shares"), [0, kvHeads, -1, 0], of("shares.shared")), makes("MatMul", [of("shares.shared"), values], of("sums")),
    reshaped(of("sums"), [0, heads, -1, 0], of("heads")),
  ];
  const cut = (x: string, from: string, to: string, axis: string, y: string): OnnxNode => makes("Slice", [x, from, to, axis], y);
  const inPieces = Array.from({ length: pieces }, (_, i) => (part: string) => name(`${part}.${i}`));
  const whole = [name("scaled"), name("keys"), name("v"), POSITIONS] as const;
  return [
    ...byHead(node.q, heads, name("q")), ...rotated(name("q"), name("q.rotated")), makes("Mul", [name("q.rotated"), scalar("scale", scale)], whole[0]),
    ...byHead(node.k, kvHeads, name("k")), ...rotated(name("k"), name("k.rotated")), transposed(name("k.rotated"), [0, 1, 3, 2], whole[1]),
    ...byHead(node.v, kvHeads, whole[2]),
    ...(pieces === 1 ? piece((part) => name(`${part}.0`), ...whole, POSITIONS) : [
      { op: "Split", inputs: [CUTS], outputs: [...inPieces.map((of) => of("from")), name("end")], ints: { axis: 0, num_outputs: pieces + 1 } },
      ...inPieces.flatMap((of, i) => {
        const from = of("from"), to = inPieces[i + 1]?.("from") ?? name("end");
        return [
          cut(whole[0], from, to, two, of("q")), cut(whole[1], zero, to, three, of("keys")), cut(whole[2], zero, to, two, of("v")),
          cut(POSITIONS, from, to, zero, of("positions")), cut(POSITIONS, zero, to, zero, of("seen")),
          ...piece(of, of("q"), of("keys"), of("v"), of("positions"), of("seen")),
        ];
      }),
    ]),
    makes("Concat", inPieces.map((of) => of("heads")), name("sums"), { ints: { axis: 2 } }),
    transposed(name("sums"), [0, 2, 1, 3], name("joined")), reshaped(name("joined"), [0, 0, -1], out),
  ];
}
