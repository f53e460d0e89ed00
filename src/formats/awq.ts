import { InputError } from "../errors.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import { fromFloat32, toFloat32 } from "../safetensors/floats.js";
import type { Tensor } from "../safetensors/tensor.js";
import { packEightRows, unpackEightRows } from "./eight-rows.js";
import type { Format, FormatRun, Note, PackedFormat } from "./format.js";
import { refusesOffsets } from "./integer-zeros.js";
import { marlinNotes } from "./marlin.js";
import { patternRegex, patternsOf } from "./module-patterns.js";
import { bytesOf, expectFinite, expectTensor, transposed, wordsOf } from "./packed-tensors.js";
import { refusesBits } from "./refuses-bits.js";
import { rotaryKeys } from "./rotary-keys.js";

/** Kernels for other numbers of bits are GPTQModel's alone, and pack them otherwise. */
const AWQ_BITS = 4;

/** The group sizes that the kernels of vLLM and GPTQModel take, beside one group a row. */
const GROUP_SIZES = [32, 64, 128];

/** A word holds the codes of as many output channels. */
const CHANNELS = 8;

/**
 * The `awq` format of AutoAWQ, version GEMM: qweight int32 [in, out/8], qzeros int32 [G, out/8], both interleaved (`packEightRows`), and
 * scales f16 [G, out]. Codes of any method fit it. It always has zero points, which are 8 where the run is symmetric.
 */
export const awq: Format = {
  name: "awq",
  bits: [AWQ_BITS],
  scaleDtype: () => "F16",
  refusesRun({ bits, order, lmHead }) {
    const refusal = refusesBits(awq, bits);
    if (refusal !== undefined) return refusal;
    if (order === "act") return "awq has no act order: its groups lie side by side. Take group-aware, or the format gptq";
    if (lmHead !== undefined) return "awq leaves lm_head as it is: transformers takes no packed one. Take the format gptq or compressed-tensors for that";
    return undefined;
  },
  refusesLinear({ outFeatures, inFeatures }, scheme) {
    const { groupSize } = scheme;
    if (inFeatures % groupSize !== 0) return `its ${inFeatures} input channels are not a multiple of the group size ${groupSize}`;
    if (![...GROUP_SIZES, inFeatures].includes(groupSize)) return `awq's readers take groups of ${GROUP_SIZES.join(", ")} or all input channels, not of ${groupSize}`;
    if (outFeatures % CHANNELS !== 0) return `awq packs output channels by ${CHANNELS}, and it has ${outFeatures}`;
    return refusesOffsets("awq", scheme);
  },
  programs: ["transformers", "GPTQModel", "vLLM", "mlx-lm"],
  notes(linear, { groupSize }) {
    const found: Note[] = marlinNotes(linear);
    if (!GROUP_SIZES.includes(groupSize)) found.push({ program: "mlx-lm", loads: "no", text: `mlx-lm takes groups of ${GROUP_SIZES.join(", ")} only, not one scale a row` });
    return found;
  },
  runNotes: () => [],
  layout(name, { outFeatures, inFeatures }, { groupSize }) {
    const groups = inFeatures / groupSize;
    return [
      { name: `${name}.qweight`, dtype: "I32", shape: [inFeatures, outFeatures / CHANNELS] },
      { name: `${name}.qzeros`, dtype: "I32", shape: [groups, outFeatures / CHANNELS] },
      { name: `${name}.scales`, dtype: "F16", shape: [groups, outFeatures] },
    ];
  },
  pack(name, linear) {
    const { outFeatures, inFeatures, scheme, codes, scales, zeros } = linear;
    const groups = inFeatures / scheme.groupSize;
    const bytes = [
      bytesOf(packEightRows(codes, outFeatures, inFeatures)),
      bytesOf(packEightRows(zeros, outFeatures, groups)),
      fromFloat32(transposed(scales, outFeatures, groups), "F16"),
    ];
    return awq.layout(name, linear, scheme, "natural").map((spec, i): Tensor => ({ ...spec, bytes: bytes[i] }));
  },
  config: (run, model = {}) => ({ quantizationConfig: configOf(run), configKeys: rotaryKeys(model), files: {} }),
  detect,
};

function configOf(run: FormatRun): Record<string, unknown> {
  const kept = patternsOf(run.linears, ({ scheme }) => scheme === undefined);
  return {
    quant_method: "awq",
    version: "gemm",
    bits: AWQ_BITS,
    group_size: run.groupSize,
    zero_point: true,
    // Ends of names or whole ones: transformers compares the end of a module's name, vLLM any part of it.
    modules_to_not_convert: kept.length > 0 ? kept.map(({ name }) => name) : null,
    // GPTQModel knows no modules_to_not_convert.
    ...(kept.length > 0 && { dynamic: Object.fromEntries(kept.map((pattern) => [`-:${patternRegex(pattern)}`, {}])) }),
    meta: { quantizer: [run.quantizer] },
  };
}

function detect(config: Record<string, unknown>): PackedFormat | undefined {
  if (config["quant_method"] !== "awq") return undefined;
  const bits = config["bits"] ?? config["w_bit"];
  const groupSize = config["group_size"] ?? config["q_group_size"];
  const version = config["version"] ?? config["format"] ?? "gemm";
  const zeroPoint = config["zero_point"] ?? true;
  if (bits !== AWQ_BITS) throw new InputError(`quantization_config says bits ${JSON.stringify(bits)}; awq holds ${AWQ_BITS}`);
  if (typeof groupSize !== "number" || !Number.isSafeInteger(groupSize) || (groupSize < 1 && groupSize !== -1)) {
    throw new InputError(`quantization_config says group_size ${JSON.stringify(groupSize)}; expected -1 or a positive integer`);
  }
  // AutoAWQ wrote GEMM, transformers gemm.
  if (version !== "gemm" && version !== "GEMM") throw new InputError(`quantization_config says version ${JSON.stringify(version)}; of awq only gemm can be read`);
  if (zeroPoint !== true) throw new InputError(`quantization_config says zero_point ${JSON.stringify(zeroPoint)}; awq can only be read with zero points`);
  return {
    format: "awq",
    bits: AWQ_BITS,
    groupSize,
    symmetric: false,
    suffixes: ["qweight", "qzeros", "scales"],
    optionalSuffixes: [],
    bitsOf: () => AWQ_BITS,
    unpack: (name, tensors) => unpack(name, tensors, groupSize),
  };
}

function unpack(name: string, tensors: ReadonlyMap<string, Tensor>, said: number): QuantizedLinear {
  const qweight = expectTensor(tensors, name, "qweight", ["I32"], [undefined, undefined]);
  const [inFeatures, width] = qweight.shape as [number, number];
  const outFeatures = width * CHANNELS;
  const groupSize = said === -1 ? inFeatures : said;
  if (inFeatures % groupSize !== 0) {
    throw new InputError(`${name}.qweight has shape [${qweight.shape.join(", ")}]; its ${inFeatures} input channels are not a multiple of the group size ${groupSize}`);
  }
  const groups = inFeatures / groupSize;
  const qzeros = expectTensor(tensors, name, "qzeros", ["I32"], [groups, width]);
  const scalesTensor = expectTensor(tensors, name, "scales", ["F16", "BF16", "F32"], [groups, outFeatures]);
  const scales = toFloat32(scalesTensor.bytes, scalesTensor.dtype);
  expectFinite(scales, `${name}.scales`);
  const zeros = unpackEightRows(wordsOf(qzeros), outFeatures, groups);
  return {
    outFeatures,
    inFeatures,
    scheme: { bits: AWQ_BITS, groupSize, symmetric: zeros.every((zero) => zero === 1 << (AWQ_BITS - 1)), scaleDtype: scalesTensor.dtype },
    codes: unpackEightRows(wordsOf(qweight), outFeatures, inFeatures),
    scales: transposed(scales, groups, outFeatures),
    zeros,
  };
}
