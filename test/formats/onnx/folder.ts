import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import type { LinearPlan, ModelToWrite } from "#src/formats/format.js";
import { container } from "#src/formats/onnx/container.js";
import { onnx } from "#src/formats/onnx.js";
import { decoderOf } from "#src/model/decoder-of.js";
import type { Decoder } from "#src/model/decoder.js";
import { dequantize } from "#src/quantize/dequantize.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { roundToNearest } from "#src/quantize/rtn.js";
import type { QuantScheme } from "#src/quantize/scheme.js";
import { isFloatDtype, toFloat32 } from "#src/safetensors/floats.js";
import { parseHeader } from "#src/safetensors/header.js";
import { changed, readJson, type Values } from "../../model/golden.js";

/** A model that was written as ONNX. */
export interface OnnxFolder {
  readonly folder: string;
  /** The .onnx file's path in it. */
  readonly graph: string;
  readonly decoder: Decoder;
  readonly configKeys: Readonly<Record<string, unknown>> | undefined;
  readonly linears: ReadonlyMap<string, QuantizedLinear>;
  /** What the model computes with: quantized linears dequantized, all else as the source has it. */
  readonly weights: ReadonlyMap<string, Values>;
}

/** How a linear is to be quantized; undefined: it stays as it is. */
export type SchemeOf = (linear: Omit<LinearPlan, "scheme">) => QuantScheme | undefined;

/** Rounds a model to nearest and writes it as ONNX into a folder of its own. */
export async function writeOnnx(source: string, schemeOf: SchemeOf, fields: Record<string, unknown> = {}): Promise<OnnxFolder> {
  const config = changed(readJson(`${source}config.json`), fields);
  const decoder = decoderOf(config, "config.json");
  const file = new Uint8Array(readFileSync(`${source}model.safetensors`));
  const { tensors } = parseHeader(file, file.length, source);
  const floats = (name: string): Float32Array<ArrayBuffer> => {
    const { dtype, start, end } = tensors.get(name)!;
    if (!isFloatDtype(dtype)) throw new Error(`${name} is ${dtype}`);
    return toFloat32(file.slice(start, end), dtype);
  };

  const plans = Array.from({ length: decoder.layers }, (_, layer) => decoder.stages(layer, 1).flatMap(({ linears }) => linears)).flat()
    .concat([{ name: "model.embed_tokens", outFeatures: decoder.vocabSize, inFeatures: decoder.hiddenSize }])
    .concat(decoder.lmHead.tied ? [] : [{ name: "lm_head", outFeatures: decoder.vocabSize, inFeatures: decoder.hiddenSize }])
    .map((linear): LinearPlan => {
      const scheme = schemeOf(linear);
      return { ...linear, ...(scheme !== undefined && onnx.refusesLinear(linear, scheme) === undefined && { scheme }) };
    });
  const linears = new Map(plans.flatMap(({ name, outFeatures, inFeatures, scheme }): [string, QuantizedLinear][] => {
    if (scheme === undefined) return [];
    const { codes, scales, zeros } = roundToNearest(floats(`${name}.weight`), outFeatures, inFeatures, scheme, false);
    return [[name, { outFeatures, inFeatures, scheme, codes, scales, zeros }]];
  }));

  const facts = { config, decoder, tensors };
  const bytes = new Map([...tensors.values()].flatMap((tensor): [string, Uint8Array<ArrayBuffer>][] => {
    const linear = linears.get(tensor.name.replace(/\.weight$/, ""));
    if (linear !== undefined) return onnx.pack(tensor.name.replace(/\.weight$/, ""), linear).map((made) => [made.name, made.bytes]);
    return container.stored(tensor, facts) === undefined ? [] : [[tensor.name, file.slice(tensor.start, tensor.end)]];
  }));
  const outputs = [...tensors.values()].flatMap((tensor) => {
    const linear = linears.get(tensor.name.replace(/\.weight$/, ""));
    if (linear !== undefined) return onnx.layout(tensor.name.replace(/\.weight$/, ""), linear, linear.scheme, "natural");
    const { name, dtype, shape } = tensor;
    return bytes.has(name) ? [{ name, dtype, shape }] : [];
  });
  const model = { ...facts, linears: plans, outputs, files: new Map(), quantizer: "shardsmith:0" } as unknown as ModelToWrite;
  const { shards, files, configKeys } = await container.layOut(model);

  const folder = mkdtempSync(join(tmpdir(), "shardsmith-onnx-"));
  const write = (name: string, content: Uint8Array): void => {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  };
  for (const { file: name, header, tensors: placed, size } of shards) {
    const content = new Uint8Array(size);
    content.set(header);
    for (const { name: tensor, start, end } of placed) {
      if (bytes.get(tensor)!.length !== end - start) throw new Error(`${tensor} has ${bytes.get(tensor)!.length} bytes instead of ${end - start}`);
      content.set(bytes.get(tensor)!, start);
    }
    write(name, content);
  }
  for (const [name, content] of files) write(name, content);
  write("config.json", new TextEncoder().encode(JSON.stringify({ ...config, ...configKeys })));

  const weights = new Map([...tensors.keys()].map((name): [string, Values] => {
    const linear = linears.get(name.replace(/\.weight$/, ""));
    return [name, { shape: tensors.get(name)!.shape, values: linear === undefined ? floats(name) : dequantize(linear).data }];
  }));
  return { folder, graph: join(folder, [...files.keys()].find((name) => name.endsWith(".onnx"))!), decoder, configKeys, linears, weights };
}

/** A session that reports errors by throwing alone. */
export const openSession = (graph: string): Promise<InferenceSession> => InferenceSession.create(graph, { intraOpNumThreads: 1, logSeverityLevel: 3 });

/** The keys and values of tokens that were run before. */
export type Past = Readonly<Record<string, Tensor>>;

/** Runs tokens [batch, tokens] after those of `past`; `mask` [batch, total], all ones unless said. Logits [batch, tokens, vocab]. */
export async function runOnnx(
  session: InferenceSession, decoder: Decoder, tokens: readonly (readonly number[])[], past?: Past, mask?: readonly (readonly number[])[],
): Promise<{ readonly logits: Float32Array; readonly past: Past }> {
  const batch = tokens.length;
  const before = past === undefined ? 0 : past["past_key_values.0.key"].dims[2];
  const total = before + tokens[0].length;
  const full = mask ?? tokens.map(() => Array.from({ length: total }, () => 1));
  const positions = full.map((row) => {
    let seen = 0;
    return row.map((kept) => Math.max(0, (seen += kept) - 1)).slice(before);
  });
  const int64 = (rows: readonly (readonly number[])[]) => new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
  const nothing = Object.fromEntries(Array.from({ length: decoder.layers }, (_, layer) => {
    const { kvHeads, headDim } = decoder.layer(layer);
    return (["key", "value"] as const).map((part) => [`past_key_values.${layer}.${part}`, new Tensor("float32", new Float32Array(), [batch, kvHeads, 0, headDim])] as const);
  }).flat());
  const { logits, ...present } = await session.run({ input_ids: int64(tokens), attention_mask: int64(full), position_ids: int64(positions), ...(past ?? nothing) });
  return {
    logits: logits.data as Float32Array,
    past: Object.fromEntries(Object.entries(present).map(([name, tensor]) => [name.replace("present", "past_key_values"), tensor])),
  };
}
