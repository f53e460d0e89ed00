import { encodeModel, type OnnxWeight } from "../../onnx/model.js";
import type { Decoder } from "../../model/decoder.js";
import { byteSize } from "../../safetensors/dtypes.js";
import { isFloatDtype } from "../../safetensors/floats.js";
import type { Container, LinearPlan } from "../format.js";
import { aligned, dataFiles } from "./data-files.js";
import { decoderGraph, type RotaryTable } from "./decoder-graph.js";
import { ELEMENT_OF } from "./element-of.js";
import { rowsName } from "./matmul-nbits.js";
import { openOnnx } from "./open.js";

/** Rotary tables hold so many positions at most: at a head size of 128, 67 MB. */
const MOST_POSITIONS = 131_072;

/** `onnx/model_q4.onnx`, the graph, and beside it `.onnx_data`, …`_1`, the weights. What is not quantized is stored as it is in the source. */
export const container: Container = {
  refusesModel({ decoder, tensors }) {
    if (decoder === undefined) return "onnx files hold what a model computes, and so need an architecture that Shardsmith knows";
    for (let layer = 0; layer < decoder.layers; layer++) {
      if (decoder.layer(layer).rope.scaling.type === "longrope") return "longrope has one set of frequencies for short sequences and one for long ones; an onnx file holds one";
    }
    for (const name of tensorsOf(decoder)) {
      const { dtype } = tensors.get(name)!;
      if (!isFloatDtype(dtype)) return `its tensor ${name} is ${dtype}, from which ONNX Runtime computes no float32`;
    }
    return undefined;
  },

  stored(tensor, { decoder }) {
    if (decoder === undefined || !tensorsOf(decoder).has(tensor.name)) return undefined;
    return { spec: tensor, unit: byteSize(tensor.dtype, []), convert: (bytes) => bytes };
  },

  rowOrder: () => undefined,

  open: openOnnx,

  layOut({ decoder, linears, outputs, quantizer }) {
    const plans = new Map(linears.map((plan) => [plan.name, plan]));
    const { dtype, suffix } = labelOf(linears);
    const specs = new Map(outputs.map((spec) => [spec.name, spec]));
    const { model, tables } = decoderGraph({
      decoder: decoder!, linears: plans, dtypeOf: (name) => specs.get(name)!.dtype, positions: Math.min(decoder!.maxPositions, MOST_POSITIONS),
    });
    const file = `model${suffix}.onnx`;
    const start = packTables(tables, `${file}_data`);
    const shards = dataFiles(`onnx/${file}_data`, start, outputs);
    const weights = shards.flatMap((shard) => shard.tensors.map((tensor): OnnxWeight =>
      ({ ...tensor, type: ELEMENT_OF.get(tensor.dtype)!, file: shard.file.replace(/^onnx\//, "") })));
    const codes = weights.find(({ name }) => name.startsWith(`${decoder!.embedding.tensor}_Q`));
    if (codes !== undefined) weights.push({ ...codes, name: rowsName(codes.name), shape: [codes.shape[0], codes.shape[1] * codes.shape[2]] });
    return Promise.resolve({
      shards,
      files: new Map([[`onnx/${file}`, encodeModel({ ...model, weights: [...start.weights, ...weights], producer: quantizer })]]),
      configKeys: { "transformers.js_config": { dtype, use_external_data_format: shards.length } },
    });
  },
};

// It is asked of every tensor, and takes all layers.
const computedWith = new WeakMap<Decoder, ReadonlySet<string>>();

/** Every tensor that the decoder computes with. */
function tensorsOf(decoder: Decoder): ReadonlySet<string> {
  const known = computedWith.get(decoder);
  if (known !== undefined) return known;
  const layers = Array.from({ length: decoder.layers }, (_, layer) => decoder.tensorsOf(layer)).flat();
  const names = new Set([decoder.embedding.tensor, ...layers, decoder.finalNorm.tensor, decoder.lmHead.tensor]);
  computedWith.set(decoder, names);
  return names;
}

/** transformers.js' name for a model of so many bits, and how its files are told from others. */
const LABELS = { 4: { dtype: "q4", suffix: "_q4" }, 8: { dtype: "q8", suffix: "_quantized" } } as const;

/** That of the bits that most weights have. */
function labelOf(linears: readonly LinearPlan[]): (typeof LABELS)[4 | 8] {
  const weights = (bits: number): number =>
    linears.reduce((sum, { scheme, outFeatures, inFeatures }) => sum + (scheme?.bits === bits ? outFeatures * inFeatures : 0), 0);
  return weights(8) > weights(4) ? LABELS[8] : LABELS[4];
}

/** Where in `file` the tables lie when it begins with them, and their bytes. */
function packTables(tables: readonly RotaryTable[], file: string) {
  let size = 0;
  const weights = tables.map(({ name, shape }): OnnxWeight => {
    const length = byteSize("F32", shape);
    const start = aligned(size, length);
    size = start + length;
    return { name, type: "float32", shape, file, start, end: size };
  });
  const bytes = (): Uint8Array<ArrayBuffer> => {
    const all = new Uint8Array(size);
    tables.forEach(({ values }, i) => all.set(new Uint8Array(values().buffer), weights[i].start));
    return all;
  };
  return { weights, size, bytes };
}
