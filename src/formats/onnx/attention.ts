import type { GraphNode } from "../../engine/graph.js";
import type { OnnxNode } from "../../onnx/model.js";
import { microsoft } from "../../onnx/operators.js";

/** What every layer's attention takes besides its own q, k and v. */
export const POSITIONS = "position_ids";
export const MASK = "attention_mask";
/** Added to the scores [batch, 1, tokens, total]: 0, or so much less that nothing is left of a token that is masked. */
const BIAS = "mask.bias";
/** Index of each sequence's last token [batch], and how many tokens there are with those in the cache [1]. */
const LAST = "mask.last";
const TOTAL = "mask.total";

/** Small enough for softmax, and so far from infinity that a row of nothing else, as padding on the left has, stays a number. */
const NOTHING = -1e9;

/**
 * What attention takes from the mask [batch, total]. GroupQueryAttention itself counts tokens from the left only, so it would attend to
 * padding there; as a bias the mask holds wherever the padding is.
 */
export function maskNodes(tokens: string, constants: Map<string, readonly number[]>, scalars: Map<string, number>): OnnxNode[] {
  constants.set("mask.one", [1]).set("mask.inner", [1, 2]);
  scalars.set("mask.kept", 1).set("mask.nothing", NOTHING);
  const part = (of: string, start: number, out: string): OnnxNode => ({ op: "Shape", inputs: [of], outputs: [out], ints: { start, end: start + 1 } });
  return [
    { op: "Cast", inputs: [MASK], outputs: ["mask.float"], ints: { to: 1 } },
    { op: "Sub", inputs: ["mask.kept", "mask.float"], outputs: ["mask.hidden"] },
    { op: "Mul", inputs: ["mask.hidden", "mask.nothing"], outputs: ["mask.flat"] },
    { op: "Unsqueeze", inputs: ["mask.flat", "mask.inner"], outputs: ["mask.row"] },
    part(MASK, 0, "mask.batch"), part(MASK, 1, "mask.length"), part(tokens, 1, "mask.tokens"),
    { op: "Concat", inputs: ["mask.batch", "mask.one", "mask.tokens", "mask.length"], outputs: ["mask.shape"], ints: { axis: 0 } },
    { op: "Expand", inputs: ["mask.row", "mask.shape"], outputs: [BIAS] },
    { op: "Cast", inputs: ["mask.length"], outputs: [TOTAL], ints: { to: 6 } },
    { op: "Sub", inputs: ["mask.length", "mask.one"], outputs: ["mask.end"] },
    { op: "Expand", inputs: ["mask.end", "mask.batch"], outputs: ["mask.ends"] },
    { op: "Cast", inputs: ["mask.ends"], outputs: [LAST], ints: { to: 6 } },
  ];
}

type Attention = Extract<GraphNode, { op: "attention" }>;

// GroupQueryAttention takes only such head sizes.
const HEAD_MULTIPLE = 8;

/** Where a layer's keys and values of earlier tokens come from, and where they go with this run's: [batch, kvHeads, tokens, headDim]. */
export interface Cache {
  readonly pastKey: string;
  readonly pastValue: string;
  readonly key: string;
  readonly value: string;
}

/** Attention over what is in the cache and what is new; `cos` and `sin` name tables by position. */
export function attentionNodes(node: Attention, cache: Cache, constants: Map<string, readonly number[]>): OnnxNode[] {
  const { out, heads, kvHeads, headDim, cos, sin } = node;
  const rotary = (x: string, of: number): OnnxNode => ({ op: "RotaryEmbedding", ...microsoft, inputs: [x, POSITIONS, cos, sin], outputs: [`${x}.turned`], ints: { num_heads: of } });
  const turned = { ...node, q: `${node.q}.turned`, k: `${node.k}.turned` };
  const turns = [rotary(node.q, heads), rotary(node.k, kvHeads)];
  if (headDim % HEAD_MULTIPLE === 0) return [...turns, attend(turned, cache)];

  // Other heads are made longer with zeros, which add nothing to any score, and cut again at the end.
  const name = (part: string): string => `${out}.${part}`;
  constants.set(name("heads"), [0, 0, -1, headDim]).set(name("longHeads"), [0, 0, heads, -1]).set(name("join"), [0, 0, -1])
    .set(name("more"), [0, HEAD_MULTIPLE - (headDim % HEAD_MULTIPLE)]).set(name("zero"), [0]).set(name("size"), [headDim]).set(name("lastAxis"), [-1]);
  const pad = (x: string, to: string): OnnxNode => ({ op: "Pad", inputs: [x, name("more"), "", name("lastAxis")], outputs: [to] });
  const cut = (x: string, to: string): OnnxNode => ({ op: "Slice", inputs: [x, name("zero"), name("size"), name("lastAxis")], outputs: [to] });
  const padHeads = (x: string, part: string): OnnxNode[] => [
    { op: "Reshape", inputs: [x, name("heads")], outputs: [name(`${part}.heads`)] },
    pad(name(`${part}.heads`), name(`${part}.padded`)),
    { op: "Reshape", inputs: [name(`${part}.padded`), name("join")], outputs: [name(part)] },
  ];
  return [
    ...turns, ...padHeads(turned.q, "q"), ...padHeads(turned.k, "k"), ...padHeads(turned.v, "v"),
    pad(cache.pastKey, name("pastKey")), pad(cache.pastValue, name("pastValue")),
    attend({ ...turned, out: name("long"), q: name("q"), k: name("k"), v: name("v") },
      { pastKey: name("pastKey"), pastValue: name("pastValue"), key: name("key"), value: name("value") }),
    { op: "Reshape", inputs: [name("long"), name("longHeads")], outputs: [name("long.heads")] },
    cut(name("long.heads"), name("short.heads")),
    { op: "Reshape", inputs: [name("short.heads"), name("join")], outputs: [out] },
    cut(name("key"), cache.key), cut(name("value"), cache.value),
  ];
}

const attend = ({ out, q, k, v, heads, kvHeads, window, scale }: Attention, { pastKey, pastValue, key, value }: Cache): OnnxNode => ({
  op: "GroupQueryAttention", ...microsoft,
  inputs: [q, k, v, pastKey, pastValue, LAST, TOTAL, "", "", "", BIAS],
  outputs: [out, key, value],
  ints: { num_heads: heads, kv_num_heads: kvHeads, local_window_size: window ?? -1 },
  floats: { scale },
});
