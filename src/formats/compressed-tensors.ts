import { InputError } from "../errors.js";
import type { Bits, QuantScheme } from "../quantize/scheme.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import { fromFloat32, toFloat32 } from "../safetensors/floats.js";
import { isJsonObject } from "../safetensors/json.js";
import type { Tensor, TensorSpec } from "../safetensors/tensor.js";
import { alongCols, alongRows, packBits, unpackBits, wordsFor } from "./bits.js";
import type { Format, FormatRun, LinearPlan, Note, PackedFormat } from "./format.js";
import { refusesOffsets } from "./integer-zeros.js";
import { marlinNotes } from "./marlin.js";
import { patternRegex, patternsOf } from "./module-patterns.js";
import { isHeld, listed, refusesBits } from "./refuses-bits.js";
import { severalBits } from "./several-bits.js";
import { bytesOf, expectFinite, expectTensor, wordsOf } from "./packed-tensors.js";

/** vLLM reads these. Until June 2026 compressed-tensors left the rest of a word empty that no whole code fits. */
const PACKED_BITS: readonly Bits[] = [4, 8];

/** The group sizes of vLLM's kernels; those that a run can have, beside one scale a row. */
const VLLM_GROUP_SIZES = [32, 64, 128];

/**
 * The `compressed-tensors` format of llm-compressor and vLLM, pack-quantized: weight_packed int32 [out, ceil(in·b/32)],
 * weight_scale in the model's dtype [out, G], weight_shape int64 [2] and, asymmetric only, weight_zero_point int32
 * [ceil(out·b/32), G].
 */
export const compressedTensors: Format = {
  name: "compressed-tensors",
  bits: PACKED_BITS,
  scaleDtype: (modelDtype) => modelDtype,
  refusesRun({ bits, order }) {
    // Its readers had a weight_g_idx once; compressed-tensors removed it in August 2026.
    const act = order === "act" ? "compressed-tensors has no act order: its groups lie side by side. Take group-aware, or the format gptq" : undefined;
    return refusesBits(compressedTensors, bits, 32 % bits === 0 ? undefined : TWO_WAYS) ?? act;
  },
  refusesLinear({ inFeatures }, scheme) {
    const { groupSize } = scheme;
    if (inFeatures % groupSize !== 0) return `its ${inFeatures} input channels are not a multiple of the group size ${groupSize}`;
    return refusesOffsets("compressed-tensors", scheme);
  },
  programs: ["transformers", "vLLM", "llama.cpp"],
  notes(linear, { groupSize, symmetric }) {
    const found: Note[] = [];
    const note = (program: Note["program"], loads: Note["loads"], text: string): void => void found.push({ program, loads, text });
    if (!symmetric) note("transformers", "so", "transformers 5 with compressed-tensors 0.20 loads asymmetric weights only with CompressedTensorsConfig(dequantize=True)");
    if (![...VLLM_GROUP_SIZES, linear.inFeatures].includes(groupSize)) note("vLLM", "no", "vLLM takes compressed-tensors in groups of 32, 64, 128 or all input channels only");
    return [...found, ...marlinNotes(linear)];
  },
  runNotes(schemes) {
    const found: Note[] = [];
    // One scale a row is a strategy of its own there, and a group as long as the row is not.
    if (new Set(schemes.map(({ groupSize }) => groupSize)).size > 1 || schemes.some(({ groupSize }) => !VLLM_GROUP_SIZES.includes(groupSize))) {
      found.push({ program: "llama.cpp", loads: "no", text: "llama.cpp's converter takes compressed-tensors in groups only, not with one scale a row" });
    }
    if (!severalBits(schemes)) return found;
    found.push({ program: "llama.cpp", loads: "no", text: "llama.cpp's converter takes compressed-tensors with one setting for all linears only" });
    // Seen with 5.24: CompressedTensorsConfig(dequantize=True) unpacks every linear as the first config group says.
    if (schemes.some(({ symmetric }) => !symmetric)) {
      found.push({ program: "transformers", loads: "no", text: "transformers 5 reads asymmetric linears of several bits wrong, without a word; take symmetric ones for it" });
    }
    return found;
  },
  layout(name, { outFeatures, inFeatures }, { bits, groupSize, symmetric, scaleDtype }) {
    const groups = inFeatures / groupSize;
    const specs: TensorSpec[] = [
      { name: `${name}.weight_packed`, dtype: "I32", shape: [outFeatures, wordsFor(inFeatures, bits)] },
      { name: `${name}.weight_scale`, dtype: scaleDtype, shape: [outFeatures, groups] },
      { name: `${name}.weight_shape`, dtype: "I64", shape: [2] },
    ];
    if (!symmetric) specs.push({ name: `${name}.weight_zero_point`, dtype: "I32", shape: [wordsFor(outFeatures, bits), groups] });
    return specs;
  },
  pack(name, linear) {
    const { outFeatures, inFeatures, scheme, codes, scales, zeros } = linear;
    const { bits, groupSize, symmetric, scaleDtype } = scheme;
    const bytes = [
      bytesOf(packBits(codes, alongRows(outFeatures, inFeatures, bits))),
      fromFloat32(scales, scaleDtype),
      new Uint8Array(new BigInt64Array([BigInt(outFeatures), BigInt(inFeatures)]).buffer),
    ];
    if (!symmetric) bytes.push(bytesOf(packBits(zeros, alongCols(outFeatures, inFeatures / groupSize, bits))));
    return compressedTensors.layout(name, linear, scheme, "natural").map((spec, i): Tensor => ({ ...spec, bytes: bytes[i] }));
  },
  config: (run) => ({ quantizationConfig: configOf(run), files: {} }),
  detect,
};

const TWO_WAYS = "its readers pack codes that do not fill a word in two ways, by their version";

/** The weights' arguments as compressed-tensors words them; its readers refuse keys that they do not know. */
function weightsOf(scheme: QuantScheme, inFeatures: number, run: FormatRun): Record<string, unknown> {
  const perRow = run.groupSize === -1 && scheme.groupSize === inFeatures;
  return {
    num_bits: scheme.bits,
    type: "int",
    symmetric: scheme.symmetric,
    ...(perRow ? { strategy: "channel" } : { strategy: "group", group_size: scheme.groupSize }),
  };
}

/** One group for all linears where their settings are the same, as llama.cpp demands; else the commonest takes what the others leave. */
function configOf(run: FormatRun): Record<string, unknown> {
  const keyOf = (linear: LinearPlan): string | undefined =>
    linear.scheme && JSON.stringify(weightsOf(linear.scheme, linear.inFeatures, run));
  const counts = new Map<string, number>();
  for (const linear of run.linears) {
    const key = keyOf(linear);
    if (key !== undefined) counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const byCount = [...counts].sort((a, b) => b[1] - a[1]).map(([key]) => key);
  const lmHead = run.linears.find(({ name }) => name === run.lmHead);
  const groups = byCount.map((key, i) => [
    `group_${i}`,
    {
      // lm_head is a class of its own in vLLM and SGLang, no Linear, and so is always named.
      targets: [
        ...(i === 0 ? ["Linear"] : []),
        ...patternsOf(run.linears, (linear) => keyOf(linear) === key && (i > 0 || linear === lmHead)).map((pattern) => `re:${patternRegex(pattern)}`),
      ],
      weights: JSON.parse(key) as unknown,
    },
  ]);
  return {
    quant_method: "compressed-tensors",
    format: "pack-quantized",
    quantization_status: "compressed",
    ignore: [...run.linears.filter((linear) => linear.scheme === undefined).map((linear) => linear.name), ...(lmHead === undefined ? [run.lmHead] : [])],
    config_groups: Object.fromEntries(groups) as Record<string, unknown>,
  };
}

function detect(config: Record<string, unknown>): PackedFormat | undefined {
  if (config["quant_method"] !== "compressed-tensors") return undefined;
  if (config["format"] !== "pack-quantized") {
    throw new InputError(`quantization_config says format ${JSON.stringify(config["format"])}; only pack-quantized can be read`);
  }
  const groups: unknown = config["config_groups"];
  const settings = isJsonObject(groups) ? Object.entries(groups).map(([key, group]) => settingOf(key, group)) : [];
  const first = settings[0];
  if (first === undefined) throw new InputError("quantization_config has no config_groups");
  return {
    format: "compressed-tensors",
    bits: first.bits,
    groupSize: first.groupSize,
    symmetric: first.symmetric,
    suffixes: ["weight_packed", "weight_scale", "weight_shape"],
    optionalSuffixes: ["weight_zero_point"],
    bitsOf: (shapes) => bitsByShape(shapes, settings),
    unpack: (name, tensors) => unpack(name, tensors, settings),
  };
}

/** The setting whose groups are as many as the scales, at that number of input channels. */
function bitsByShape(shapes: ReadonlyMap<string, readonly number[]>, settings: readonly Setting[]): number {
  const words = shapes.get("weight_packed")?.[1];
  const groups = shapes.get("weight_scale")?.[1] ?? 0;
  return (settings.find(({ bits, groupSize }) => groupSize > 0 && wordsFor(groups * groupSize, bits) === words) ?? settings[0]).bits;
}

interface Setting {
  readonly bits: Bits;
  readonly groupSize: number;
  readonly symmetric: boolean;
}

function settingOf(key: string, group: unknown): Setting {
  const weights = isJsonObject(group) && isJsonObject(group["weights"]) ? group["weights"] : {};
  const { num_bits: bits, type = "int", symmetric = true, strategy, group_size: groupSize } = weights;
  const where = `quantization_config.config_groups.${key}`;
  if (type !== "int" || !isHeld(PACKED_BITS, bits)) {
    throw new InputError(`${where} has weights of ${JSON.stringify(type)} in ${JSON.stringify(bits)} bits; only int in ${listed(PACKED_BITS)} can be read`);
  }
  if (isJsonObject(group) && group["input_activations"] !== undefined && group["input_activations"] !== null) {
    throw new InputError(`${where} quantizes activations, which cannot be read`);
  }
  const perRow = strategy === "channel" || (strategy === undefined && groupSize === -1);
  if (!perRow && (strategy ?? "group") !== "group") throw new InputError(`${where} has strategy ${JSON.stringify(strategy)}; only group and channel can be read`);
  if (!perRow && !(typeof groupSize === "number" && Number.isSafeInteger(groupSize) && groupSize > 0)) {
    throw new InputError(`${where} has group_size ${JSON.stringify(groupSize)}; expected a positive integer`);
  }
  return { bits, groupSize: perRow ? -1 : (groupSize as number), symmetric: symmetric !== false };
}

function unpack(name: string, tensors: ReadonlyMap<string, Tensor>, settings: readonly Setting[]): QuantizedLinear {
  const [outFeatures, inFeatures] = shapeOf(name, tensors);
  const packed = expectTensor(tensors, name, "weight_packed", ["I32"], [outFeatures, undefined]);
  const scaleTensor = expectTensor(tensors, name, "weight_scale", ["F16", "BF16", "F32"], [outFeatures, undefined]);
  const groups = scaleTensor.shape[1];
  const setting = settings.find(
    (s) => wordsFor(inFeatures, s.bits) === packed.shape[1] && (s.groupSize === -1 ? 1 : inFeatures / s.groupSize) === groups,
  );
  if (setting === undefined) {
    throw new InputError(
      `${name}.weight_packed has shape [${packed.shape.join(", ")}] and weight_scale [${scaleTensor.shape.join(", ")}]; ` +
        `for a weight of [${outFeatures}, ${inFeatures}] no config group makes such`,
    );
  }
  const { bits } = setting;
  const zeroTensor = tensors.has("weight_zero_point")
    ? expectTensor(tensors, name, "weight_zero_point", ["I32"], [wordsFor(outFeatures, bits), groups])
    : undefined;
  if (!setting.symmetric && zeroTensor === undefined) throw new InputError(`${name}.weight_zero_point is missing`);
  const scales = toFloat32(scaleTensor.bytes, scaleTensor.dtype);
  expectFinite(scales, `${name}.weight_scale`);
  const middle = 1 << (bits - 1);
  const zeros = zeroTensor
    ? unpackBits(wordsOf(zeroTensor), alongCols(outFeatures, groups, bits))
    : new Uint8Array(outFeatures * groups).fill(middle);
  return {
    outFeatures,
    inFeatures,
    scheme: { bits, groupSize: inFeatures / groups, symmetric: setting.symmetric, scaleDtype: scaleTensor.dtype },
    codes: unpackBits(wordsOf(packed), alongRows(outFeatures, inFeatures, bits)),
    scales,
    zeros,
  };
}

function shapeOf(name: string, tensors: ReadonlyMap<string, Tensor>): [number, number] {
  const { bytes } = expectTensor(tensors, name, "weight_shape", ["I64"], [2]);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const shape = [view.getBigInt64(0, true), view.getBigInt64(8, true)];
  if (shape.some((n) => n < 1n || n > 0x7fffffffn)) throw new InputError(`${name}.weight_shape is [${shape.join(", ")}]; expected two positive sizes`);
  return [Number(shape[0]), Number(shape[1])];
}
