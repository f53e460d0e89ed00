import type { Fields } from "../fields.js";

/** How far the attention of a layer sees, and which rope it has where there are two. */
export type LayerType = "full_attention" | "sliding_attention";
export const LAYER_TYPES = ["full_attention", "sliding_attention"] as const;

/** Whether linears have biases: always, never, or as a field of config.json says. */
export type Biases = boolean | "attention_bias" | "mlp_bias";

/**
 * An architecture as data: what sets it apart from the others, and what transformers assumes where config.json is silent. All of
 * them have grouped-query attention with rotary embedding, a gated MLP, and RMS norms before each.
 */
export interface Family {
  /** transformers' `model_type`. */
  readonly modelType: string;
  /** The class in `architectures` that has a language model's head. */
  readonly architecture: string;
  /** transformers' defaults for fields that are missing. `headDim`: absent where it is hiddenSize / heads. */
  readonly defaults: {
    readonly tied: boolean;
    readonly maxPositions: number;
    readonly ropeTheta: number;
    readonly headDim?: number;
    readonly kvHeads?: number;
  };
  readonly biases: { readonly qkv: Biases; readonly o: Biases; readonly mlp: Biases };
  /** RMS norms over each head of q and k, before the rotation. */
  readonly headNorms: boolean;
  /** Names of a layer's norms; `afterAttention` and `afterMlp` act on a branch before it joins the residual. */
  readonly norms: {
    readonly beforeAttention: string;
    readonly afterAttention?: string;
    readonly beforeMlp: string;
    readonly afterMlp?: string;
  };
  /** What is added to the weights of norms: 1 in Gemma. */
  readonly normPlus: 0 | 1;
  /** The field of config.json that names the activation, and its default where it has one. */
  readonly activation: { readonly field: string; readonly byDefault?: string };
  /** Embeddings are multiplied with √hiddenSize. */
  readonly scaledEmbedding: boolean;
  /** The field whose inverse root is the attention's scale, and its default; absent: 1 / √headDim. */
  readonly attentionScale?: { readonly field: string; readonly byDefault: number };
  /** The rope of sliding layers where they have one of their own: the field of its theta in version 4 of transformers. */
  readonly slidingRope?: { readonly thetaField: string; readonly byDefault: number };
  /** The type of each layer, and the window of the sliding ones (absent: they see all). */
  attention(config: Fields, layers: number): { readonly types: readonly LayerType[]; readonly window?: number };
}
