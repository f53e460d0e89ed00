import type { Graph } from "../engine/graph.js";
import type { Layer } from "./stages.js";

export type { Layer } from "./stages.js";

/** A linear of a decoder layer, by its module name (the tensor is `${name}.weight`). */
export interface LinearSpec {
  readonly name: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
}

/**
 * One link of a decoder layer's chain. Its graph takes the activations that the stage before it left (`graph.inputs`), and
 * makes the input X of its linears and what later stages need. The linears are applied by the *next* stage's graph, so that
 * they can be quantized in between.
 */
export interface Stage {
  /** For people: "attention in", "attention out", "mlp in", "mlp out", "end". */
  readonly name: string;
  readonly graph: Graph;
  /** Weights of the graph: its name there → the checkpoint's tensor, or values that are computed (rotary tables). */
  readonly weights: ReadonlyMap<string, WeightSource>;
  /** The output of the graph that is the input X of `linears`; absent for the last stage, which has none. */
  readonly x?: string;
  readonly linears: readonly LinearSpec[];
  /** What scales X channel by channel. Absent where nothing does so exactly. */
  readonly fold?: Fold;
  /** Which of the graph's inputs and outputs live on after this stage; the next stage's inputs. */
  readonly carry: readonly string[];
}

/**
 * What makes the input X of a stage's linears, and is a factor of each of its channels: divided by s there, and the linears' columns
 * multiplied by s, the model is what it was.
 */
export type Fold =
  /** A norm's weights; `plus` as in `WeightSource`. */
  | { readonly norm: string; readonly plus: number }
  /** The rows of a linear of the stage before, without bias: `rowOf`[channel] is the row that channel comes from. */
  | { readonly linear: string; readonly rowOf: Int32Array };

/** A tensor of the checkpoint, with what is added to each value (Gemma's norms are 1 + w); or one of the decoder's tables. */
export type WeightSource =
  | { readonly tensor: string; readonly plus?: number }
  | { readonly table: (positions: number) => Float32Array<ArrayBuffer> };

/** What config.json says of a decoder, as data. */
export interface Decoder {
  /** transformers' `model_type`. */
  readonly family: string;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly vocabSize: number;
  /** Longest sequence that the model was made for. */
  readonly maxPositions: number;
  /** Embedding tensor [vocab, hidden] and what its rows are multiplied with. */
  readonly embedding: { readonly tensor: string; readonly scale: number };
  /** Layer i as data: heads, norms, rope. */
  layer(index: number): Layer;
  /** The stages of layer i, in order; the first takes the hidden state `h`, the last leaves it. */
  stages(layer: number, positions: number): readonly Stage[];
  /** All tensors of layer i that exist in the checkpoint, linears' weights and biases included. */
  tensorsOf(layer: number): readonly string[];
  /** From the last hidden state to what lm_head takes. */
  readonly finalNorm: { readonly tensor: string; readonly plus: number; readonly eps: number };
  /** [vocab, hidden]: the embedding itself when tied. */
  readonly lmHead: { readonly tensor: string; readonly tied: boolean; readonly softcap?: number };
}
