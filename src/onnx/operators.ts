import type { Activation, GraphNode } from "../engine/graph.js";
import type { OnnxNode } from "./model.js";

export const microsoft = { domain: "com.microsoft" } as const;

const ACTIVATIONS: Readonly<Record<Activation, Pick<OnnxNode, "op" | "domain" | "floats" | "strings">>> = {
  silu: { op: "QuickGelu", ...microsoft, floats: { alpha: 1 } },
  gelu: { op: "Gelu", strings: { approximate: "none" } },
  gelu_tanh: { op: "Gelu", strings: { approximate: "tanh" } },
};

/** Operations that every model computes alike, whatever its weights are stored as and wherever attention finds what came before. */
export type PlainNode = Exclude<GraphNode, { op: "linear" | "attention" }>;

/** The ONNX nodes of a plain operation; the shapes that they need are added to `constants`. */
export function plainNodes(node: PlainNode, constants: Map<string, readonly number[]>): OnnxNode[] {
  const { out } = node;
  switch (node.op) {
    case "rmsNorm":
      return [rmsNorm(node.x, node.weight, node.eps, out)];
    case "headNorm": {
      // In Reshape, 0 keeps a dimension and −1 takes what is left.
      constants.set(`${out}.split`, [0, 0, node.heads, -1]).set(`${out}.join`, [0, 0, -1]);
      return [
        { op: "Reshape", inputs: [node.x, `${out}.split`], outputs: [`${out}.heads`] },
        rmsNorm(`${out}.heads`, node.weight, node.eps, `${out}.normed`),
        { op: "Reshape", inputs: [`${out}.normed`, `${out}.join`], outputs: [out] },
      ];
    }
    case "add":
      return [{ op: "Add", inputs: [node.a, node.b], outputs: [out] }];
    case "mul":
      return [{ op: "Mul", inputs: [node.a, node.b], outputs: [out] }];
    case "activation":
      return [{ ...ACTIVATIONS[node.kind], inputs: [node.x], outputs: [out] }];
  }
}

const rmsNorm = (x: string, weight: string, epsilon: number, out: string): OnnxNode =>
  ({ op: "SimplifiedLayerNormalization", inputs: [x, weight], outputs: [out], ints: { axis: -1, stash_type: 1 }, floats: { epsilon } });
