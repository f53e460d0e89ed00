import { renamed } from "../../engine/graph.js";
import type { Decoder, Stage, WeightSource } from "../../model/decoder.js";
import { ELEMENT, type OnnxModel, type OnnxNode } from "../../onnx/model.js";
import { plainNodes } from "../../onnx/operators.js";
import type { Dtype } from "../../safetensors/dtypes.js";
import type { LinearPlan } from "../format.js";
import { attentionNodes, MASK, maskNodes, POSITIONS, type Cache } from "./attention.js";
import { gatherNode, productNode } from "./matmul-nbits.js";

const TOKENS = "input_ids";
const LOGITS = "logits";

/** A table of cosines or sines [positions, headDim / 2] that the graph takes beside the model's weights. */
export interface RotaryTable {
  readonly name: string;
  readonly shape: readonly [positions: number, half: number];
  /** Computed when it is asked for: a long context's tables take a second, and tens of megabytes. */
  readonly values: () => Float32Array<ArrayBuffer>;
}

const TABLE = "rotary.";

/** Whether a weight of the graph is a rotary table, and none of the model's. */
export const isTable = (name: string): boolean => name.startsWith(TABLE);

/** What a graph is built of. */
export interface DecoderParts {
  readonly decoder: Decoder;
  /** Linears, and the embedding if it is quantized, by module name; those without a scheme are stored as they are. */
  readonly linears: ReadonlyMap<string, LinearPlan>;
  /** Of tensors that are stored as they are. */
  readonly dtypeOf: (tensor: string) => Dtype;
  /** How many positions the rotary tables hold. */
  readonly positions: number;
}

/**
 * The whole decoder as one graph, with the inputs and outputs that transformers.js and optimum give such models: input_ids, attention_mask and
 * position_ids (int64), past_key_values.N.key and .value to logits, present.N.key and .value (float32).
 */
export function decoderGraph(parts: DecoderParts): { readonly model: Omit<OnnxModel, "weights" | "producer">; readonly tables: readonly RotaryTable[] } {
  const graph = new DecoderGraph(parts);
  const { decoder } = parts;
  graph.embed();
  for (let layer = 0; layer < decoder.layers; layer++) graph.layer(layer);
  graph.head();

  const layers = Array.from({ length: decoder.layers }, (_, i) => ({ ...cacheOf(i), ...decoder.layer(i) }));
  const cached = (name: string, { kvHeads, headDim }: { readonly kvHeads: number; readonly headDim: number }, length: string) =>
    ({ name, type: "float32", shape: ["batch_size", kvHeads, length, headDim] }) as const;
  const outputs = [
    { name: LOGITS, type: "float32", shape: ["batch_size", "sequence_length", decoder.vocabSize] } as const,
    ...layers.flatMap((layer) => [cached(layer.key, layer, TOTAL_LENGTH), cached(layer.value, layer, TOTAL_LENGTH)]),
  ];
  return {
    model: {
      inputs: [
        { name: TOKENS, type: "int64", shape: ["batch_size", "sequence_length"] },
        { name: MASK, type: "int64", shape: ["batch_size", TOTAL_LENGTH] },
        { name: POSITIONS, type: "int64", shape: ["batch_size", "sequence_length"] },
        ...layers.flatMap((layer) => [cached(layer.pastKey, layer, "past_sequence_length"), cached(layer.pastValue, layer, "past_sequence_length")]),
      ],
      outputs,
      nodes: live(graph.nodes, outputs.map(({ name }) => name)),
      constants: graph.constants,
      scalars: graph.scalars,
    },
    tables: [...graph.tables.values()],
  };
}

const TOTAL_LENGTH = "total_sequence_length";

const cacheOf = (layer: number): Cache => ({
  pastKey: `past_key_values.${layer}.key`, pastValue: `past_key_values.${layer}.value`, key: `present.${layer}.key`, value: `present.${layer}.value`,
});

/** The nodes that the outputs need. The stages compute some norms twice, and leave values that only quantizing asks for. */
function live(nodes: readonly OnnxNode[], outputs: readonly string[]): OnnxNode[] {
  const needed = new Set(outputs);
  const kept: OnnxNode[] = [];
  for (const node of [...nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    for (const name of node.inputs) needed.add(name);
    kept.push(node);
  }
  return kept.reverse();
}

/** A graph in the making. Weights bear the names of the checkpoint's tensors. */
class DecoderGraph {
  readonly nodes: OnnxNode[] = [];
  readonly constants = new Map<string, readonly number[]>();
  readonly scalars = new Map<string, number>();
  readonly tables = new Map<string, RotaryTable>();
  /** The hidden state so far. */
  private hidden = "";
  private readonly made = new Set<string>();
  private readonly ropes: unknown[] = [];

  constructor(private readonly parts: DecoderParts) {
    this.nodes.push(...maskNodes(TOKENS, this.constants, this.scalars));
  }

  embed(): void {
    const { tensor, scale } = this.parts.decoder.embedding;
    const rows = "embedding.rows";
    const plan = this.planOf(tensor);
    // Only the rows of the tokens are made float32, not the table.
    if (plan?.scheme === undefined) this.nodes.push({ op: "Gather", inputs: [tensor, TOKENS], outputs: [rows] });
    else this.nodes.push(gatherNode(plan.name, plan.scheme, TOKENS, rows));
    const floats = plan?.scheme === undefined ? this.cast(rows, this.parts.dtypeOf(tensor)) : rows;
    this.hidden = scale === 1 ? floats : this.scaled(floats, scale, "embedding.scaled");
  }

  layer(index: number): void {
    let values = new Map([["h", this.hidden]]);
    for (const stage of this.parts.decoder.stages(index, this.parts.positions)) {
      values = this.stage(stage, values, `layers.${index}.${stage.name}`, index);
    }
    this.hidden = values.get("h")!;
  }

  head(): void {
    const { finalNorm: { tensor, plus, eps }, lmHead } = this.parts.decoder;
    this.nodes.push(...plainNodes({ op: "rmsNorm", out: "head.x", x: this.hidden, weight: this.weight({ tensor, plus }), eps }, this.constants));
    const { softcap } = lmHead;
    this.linear(lmHead.tensor, undefined, "head.x", softcap === undefined ? LOGITS : "head.logits");
    if (softcap === undefined) return;
    this.scaled("head.logits", 1 / softcap, "head.share");
    this.nodes.push({ op: "Tanh", inputs: ["head.share"], outputs: ["head.tanh"] });
    this.scaled("head.tanh", softcap, LOGITS);
  }

  /** Adds a stage's nodes, and says what carries on after it, by the stage's names. */
  private stage(stage: Stage, given: ReadonlyMap<string, string>, prefix: string, layer: number): Map<string, string> {
    const sources = stage.weights;
    const nameOf = (name: string): string => given.get(name) ?? (sources.has(name) ? this.weight(sources.get(name)!) : `${prefix}.${name}`);
    for (const node of stage.graph.nodes) {
      if (node.op === "linear") {
        this.linear(stored(sources.get(node.weight)!).tensor, node.bias === undefined ? undefined : nameOf(node.bias), nameOf(node.x), nameOf(node.out));
      } else if (node.op === "attention") {
        const tables = { cos: this.table(layer, "cos", sources.get(node.cos)!), sin: this.table(layer, "sin", sources.get(node.sin)!) };
        const { q, k, v, out } = node;
        this.nodes.push(...attentionNodes({ ...node, q: nameOf(q), k: nameOf(k), v: nameOf(v), out: nameOf(out), ...tables }, cacheOf(layer), this.constants));
      } else {
        this.nodes.push(...plainNodes(renamed(node, nameOf), this.constants));
      }
    }
    return new Map(stage.carry.map((name) => [name, nameOf(name)]));
  }

  /** y = x · Wᵀ + bias. */
  private linear(tensor: string, bias: string | undefined, x: string, y: string): void {
    const product = bias === undefined ? y : `${y}.product`;
    const plan = this.planOf(tensor);
    if (plan?.scheme !== undefined) {
      this.nodes.push(productNode(plan.name, plan, plan.scheme, x, product));
    } else {
      const transposed = `${tensor}.transposed`;
      this.once({ op: "Transpose", inputs: [this.weight({ tensor })], outputs: [transposed] });
      this.nodes.push({ op: "MatMul", inputs: [x, transposed], outputs: [product] });
    }
    if (bias !== undefined) this.nodes.push({ op: "Add", inputs: [product, bias], outputs: [y] });
  }

  private planOf(tensor: string): LinearPlan | undefined {
    return this.parts.linears.get(tensor.replace(/\.weight$/, ""));
  }

  /** A tensor of the checkpoint as float32, with what is added to it. ONNX Runtime computes that when it loads the model. */
  private weight(source: WeightSource): string {
    const { tensor, plus = 0 } = stored(source);
    const value = this.cast(tensor, this.parts.dtypeOf(tensor));
    if (plus === 0) return value;
    this.scalars.set(`plus.${plus}`, plus);
    return this.once({ op: "Add", inputs: [value, `plus.${plus}`], outputs: [`${tensor}.plus`] });
  }

  private cast(value: string, dtype: Dtype): string {
    return dtype === "F32" ? value : this.once({ op: "Cast", inputs: [value], outputs: [`${value}.float`], ints: { to: ELEMENT.float32 } });
  }

  private scaled(x: string, factor: number, out: string): string {
    this.scalars.set(`${out}.factor`, factor);
    this.nodes.push({ op: "Mul", inputs: [x, `${out}.factor`], outputs: [out] });
    return out;
  }

  /** Layers of one rope share a table. */
  private table(layer: number, wave: "cos" | "sin", source: WeightSource): string {
    if (!("table" in source)) throw new Error("a rotary table that should be computed is the checkpoint's");
    const { rope, headDim } = this.parts.decoder.layer(layer);
    if (!this.ropes.includes(rope)) this.ropes.push(rope);
    const name = `${TABLE}${this.ropes.indexOf(rope)}.${wave}`;
    const { positions } = this.parts;
    if (!this.tables.has(name)) this.tables.set(name, { name, shape: [positions, headDim / 2], values: () => source.table(positions) });
    return name;
  }

  private once(node: OnnxNode): string {
    const [out] = node.outputs;
    if (!this.made.has(out)) this.nodes.push(node);
    this.made.add(out);
    return out;
  }
}

function stored(source: WeightSource): Extract<WeightSource, { tensor: string }> {
  if ("table" in source) throw new Error("a weight that should be the checkpoint's is a table");
  return source;
}
