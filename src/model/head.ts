import type { Graph } from "../engine/graph.js";
import type { Decoder, LinearSpec, Stage } from "./decoder.js";

/** The norm behind the last layer, as a stage: takes the hidden state `h`, leaves `x`, which lm_head takes. */
export function finalNormStage(decoder: Decoder): Stage {
  const { hiddenSize: width, finalNorm: { tensor, plus, eps } } = decoder;
  return {
    name: "final norm",
    graph: {
      inputs: [{ name: "h", width }],
      weights: [{ name: "norm", shape: [width] }],
      nodes: [{ op: "rmsNorm", out: "x", x: "h", weight: "norm", eps }],
      outputs: [{ name: "x", width }],
    },
    weights: new Map([["norm", { tensor, plus }]]),
    x: "x",
    linears: [],
    carry: ["x"],
  };
}

/** lm_head as a linear; undefined where it is the embedding itself (tied). */
export function lmHeadOf({ lmHead: { tensor, tied }, vocabSize, hiddenSize }: Decoder): LinearSpec | undefined {
  return tied ? undefined : { name: tensor.replace(/\.weight$/, ""), outFeatures: vocabSize, inFeatures: hiddenSize };
}

/** The embedding as a linear, of which readers take rows; where it is lm_head too (tied), they multiply with it. */
export function embeddingOf({ embedding: { tensor }, vocabSize, hiddenSize }: Decoder): LinearSpec {
  return { name: tensor.replace(/\.weight$/, ""), outFeatures: vocabSize, inFeatures: hiddenSize };
}

/** The decoder of a checkpoint with these tensors: where a tied config stands beside an lm_head of its own, transformers 5 takes the latter. */
export function withOwnHead(decoder: Decoder, tensors: ReadonlyMap<string, unknown>): Decoder {
  const tensor = "lm_head.weight";
  return decoder.lmHead.tied && tensors.has(tensor) ? { ...decoder, lmHead: { ...decoder.lmHead, tensor, tied: false } } : decoder;
}

/** The final norm as the stage whose linear lm_head is; it leaves the hidden state as it was. */
export function lmHeadStage(decoder: Decoder): Stage {
  const lmHead = lmHeadOf(decoder);
  return { ...finalNormStage(decoder), name: "lm_head", linears: lmHead === undefined ? [] : [lmHead], carry: ["h"] };
}

/**
 * From `x` to `logits` for `rows` of the vocabulary: its weight `lm_head` [rows, hidden] is a slice of lm_head's rows, so that a
 * large vocabulary can be taken in parts. Caps come after it (`capLogits`).
 */
export function logitsGraph(hiddenSize: number, rows: number): Graph {
  return {
    inputs: [{ name: "x", width: hiddenSize }],
    weights: [{ name: "lm_head", shape: [rows, hiddenSize] }],
    nodes: [{ op: "linear", out: "logits", x: "x", weight: "lm_head" }],
    outputs: [{ name: "logits", width: rows }],
  };
}

/** Gemma's `final_logit_softcapping`, in place: cap · tanh(logit / cap). Does nothing without a cap. */
export function capLogits(logits: Float32Array, cap: number | undefined): void {
  if (cap === undefined) return;
  for (let i = 0; i < logits.length; i++) logits[i] = cap * Math.tanh(logits[i] / cap);
}
