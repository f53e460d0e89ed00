import type { Activation, GraphNode, GraphWeight } from "../engine/graph.js";
import type { Fold, LinearSpec, Stage, WeightSource } from "./decoder.js";
import type { Family } from "./families/family.js";
import { rotaryTable, type Rope } from "./rotary.js";

/** One decoder layer, as data: what the family and config.json say of it. */
export interface Layer {
  /** What its tensors' names begin with, as "model.layers.0.". */
  readonly prefix: string;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly attentionScale: number;
  /** How many positions each token sees, itself included; absent: all before it. */
  readonly window?: number;
  readonly rope: Rope;
  readonly biases: { readonly qkv: boolean; readonly o: boolean; readonly mlp: boolean };
  readonly headNorms: boolean;
  readonly norms: Family["norms"];
  readonly normPlus: number;
  readonly eps: number;
  readonly activation: Activation;
}

/**
 * The chain of a layer: attention in, attention out, mlp in, mlp out, end (see `Stage`). `positions`: the sequence length of
 * the run. Values and weights have the same names in all layers, so that layers of one kind are one graph to the engine.
 */
export function layerStages(layer: Layer, positions: number): Stage[] {
  const { hiddenSize, intermediateSize, biases, norms } = layer;
  const qWidth = layer.heads * layer.headDim;
  const kvWidth = layer.kvHeads * layer.headDim;
  const linear = (name: string, inFeatures: number, outFeatures: number, bias: boolean): LayerLinear => ({ name, inFeatures, outFeatures, bias });
  const q = linear("self_attn.q_proj", hiddenSize, qWidth, biases.qkv);
  const k = linear("self_attn.k_proj", hiddenSize, kvWidth, biases.qkv);
  const v = linear("self_attn.v_proj", hiddenSize, kvWidth, biases.qkv);
  const o = linear("self_attn.o_proj", qWidth, hiddenSize, biases.o);
  const gate = linear("mlp.gate_proj", hiddenSize, intermediateSize, biases.mlp);
  const up = linear("mlp.up_proj", hiddenSize, intermediateSize, biases.mlp);
  const down = linear("mlp.down_proj", intermediateSize, hiddenSize, biases.mlp);

  // Norms are computed again where their output is needed again: that costs next to nothing, and halves what is kept between stages.
  const attentionIn = new Draft(layer).input("h", hiddenSize);
  attentionIn.norm("x", "h", norms.beforeAttention);

  const attentionOut = new Draft(layer).input("h", hiddenSize);
  attentionOut.norm("x", "h", norms.beforeAttention);
  attentionOut.linear("q", "x", q).linear("k", "x", k).linear("v", "x", v);
  if (layer.headNorms) attentionOut.headNorm("qn", "q", "self_attn.q_norm", layer.heads).headNorm("kn", "k", "self_attn.k_norm", layer.kvHeads);
  attentionOut.attention("a", layer.headNorms ? "qn" : "q", layer.headNorms ? "kn" : "k", "v", positions);

  // The residual has one name before the attention's branch has joined it (h) and another after (r): a graph names no value twice.
  const mlpIn = new Draft(layer).input("h", hiddenSize).input("a", qWidth);
  mlpIn.linear("o", "a", o);
  if (norms.afterAttention !== undefined) mlpIn.norm("on", "o", norms.afterAttention);
  mlpIn.node({ op: "add", out: "r", a: "h", b: norms.afterAttention === undefined ? "o" : "on" });
  mlpIn.norm("x", "r", norms.beforeMlp);

  const mlpOut = new Draft(layer).input("r", hiddenSize);
  mlpOut.norm("x", "r", norms.beforeMlp);
  mlpOut.linear("g", "x", gate).linear("u", "x", up);
  mlpOut.node({ op: "activation", out: "ga", x: "g", kind: layer.activation }).node({ op: "mul", out: "m", a: "ga", b: "u" });

  const end = new Draft(layer).input("r", hiddenSize).input("m", intermediateSize);
  end.linear("d", "m", down);
  if (norms.afterMlp !== undefined) end.norm("dn", "d", norms.afterMlp);
  end.node({ op: "add", out: "h", a: "r", b: norms.afterMlp === undefined ? "d" : "dn" });

  const normFold = (name: string): Fold => ({ norm: `${layer.prefix}${name}.weight`, plus: layer.normPlus });
  const linearFold = ({ name, bias }: LayerLinear, channels: number, rowOf: (channel: number) => number): Fold | undefined =>
    bias ? undefined : { linear: `${layer.prefix}${name}`, rowOf: Int32Array.from({ length: channels }, (_, channel) => rowOf(channel)) };
  // Attention only mixes tokens: a channel of its output is a row of v's, the same for all query heads that share it.
  const { heads, kvHeads, headDim } = layer;
  const rowOfV = (channel: number): number => Math.floor(channel / headDim / (heads / kvHeads)) * headDim + (channel % headDim);

  return [
    attentionIn.stage("attention in", { x: hiddenSize }, ["h"], "x", [q, k, v], normFold(norms.beforeAttention)),
    attentionOut.stage("attention out", { a: qWidth }, ["h", "a"], "a", [o], linearFold(v, qWidth, rowOfV)),
    mlpIn.stage("mlp in", { r: hiddenSize, x: hiddenSize }, ["r"], "x", [gate, up], normFold(norms.beforeMlp)),
    mlpOut.stage("mlp out", { m: intermediateSize }, ["r", "m"], "m", [down], linearFold(up, intermediateSize, (channel) => channel)),
    end.stage("end", { h: hiddenSize }, ["h"], undefined, []),
  ];
}

/** A linear whose name lacks the layer's prefix. */
interface LayerLinear extends LinearSpec {
  readonly bias: boolean;
}

/** A stage in the making. Weights are named in the graph as in the checkpoint, without the layer's prefix. */
class Draft {
  private readonly inputs: { name: string; width: number }[] = [];
  private readonly graphWeights: GraphWeight[] = [];
  private readonly sources = new Map<string, WeightSource>();
  private readonly nodes: GraphNode[] = [];

  constructor(private readonly layer: Layer) {}

  input(name: string, width: number): this {
    this.inputs.push({ name, width });
    return this;
  }

  node(node: GraphNode): this {
    this.nodes.push(node);
    return this;
  }

  norm(out: string, x: string, name: string): this {
    const { hiddenSize, normPlus, eps } = this.layer;
    return this.node({ op: "rmsNorm", out, x, weight: this.tensor(`${name}.weight`, [hiddenSize], normPlus), eps });
  }

  headNorm(out: string, x: string, name: string, heads: number): this {
    const { headDim, normPlus, eps } = this.layer;
    return this.node({ op: "headNorm", out, x, weight: this.tensor(`${name}.weight`, [headDim], normPlus), heads, eps });
  }

  linear(out: string, x: string, { name, inFeatures, outFeatures, bias }: LayerLinear): this {
    const weight = this.tensor(`${name}.weight`, [outFeatures, inFeatures]);
    return this.node({ op: "linear", out, x, weight, ...(bias && { bias: this.tensor(`${name}.bias`, [outFeatures]) }) });
  }

  attention(out: string, q: string, k: string, v: string, positions: number): this {
    const { heads, kvHeads, headDim, attentionScale: scale, window, rope } = this.layer;
    const waves = { cos: (x: number) => Math.cos(x), sin: (x: number) => Math.sin(x) };
    const table = (name: "cos" | "sin") =>
      this.weight(name, [positions, headDim / 2], { table: (length) => rotaryTable(rope, length, waves[name]) });
    return this.node({
      op: "attention", out, q, k, v, cos: table("cos"), sin: table("sin"), heads, kvHeads, headDim, scale,
      // A window as long as the run hides nothing, and without one all layers are one graph.
      ...(window !== undefined && window < positions && { window }),
    });
  }

  stage(
    name: string, outputs: Readonly<Record<string, number>>, carry: readonly string[], x: string | undefined, linears: readonly LayerLinear[], fold?: Fold,
  ): Stage {
    return {
      name,
      graph: {
        inputs: this.inputs, weights: this.graphWeights, nodes: this.nodes,
        outputs: Object.entries(outputs).map(([output, width]) => ({ name: output, width })),
      },
      weights: this.sources,
      ...(x !== undefined && { x }),
      linears: linears.map(({ name: module, outFeatures, inFeatures }) => ({ name: this.layer.prefix + module, outFeatures, inFeatures })),
      ...(fold && { fold }),
      carry,
    };
  }

  private tensor(name: string, shape: readonly number[], plus = 0): string {
    return this.weight(name, shape, { tensor: this.layer.prefix + name, ...(plus !== 0 && { plus }) });
  }

  private weight(name: string, shape: readonly number[], source: WeightSource): string {
    this.graphWeights.push({ name, shape });
    this.sources.set(name, source);
    return name;
  }
}
