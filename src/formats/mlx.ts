import { InputError } from "../errors.js";
import { BITS, type Bits } from "../quantize/scheme.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import { fromFloat32, roundAllToDtype, toFloat32 } from "../safetensors/floats.js";
import { isJsonObject } from "../safetensors/json.js";
import type { Tensor } from "../safetensors/tensor.js";
import { alongRows, packBits, unpackBits, wordsFor } from "./bits.js";
import type { Format, FormatRun, PackedFormat } from "./format.js";
import { integerZeros } from "./integer-zeros.js";
import { bytesOf, expectFinite, expectTensor, wordsOf } from "./packed-tensors.js";
import { isHeld, listed } from "./refuses-bits.js";
import { rotaryKeys } from "./rotary-keys.js";

/** The group sizes that MLX's kernels take. */
const GROUP_SIZES = [32, 64, 128];

/**
 * The affine format of MLX, as mlx-lm writes and reads it: weight uint32 [out, in·b/32], scales and biases [out, G] in the model's dtype;
 * w = scale · code + bias.
 */
export const mlx: Format = {
  name: "mlx",
  bits: BITS,
  library: "mlx",
  embeddings: true,
  // Products with codes are exact in float32 then, in whatever order a kernel multiplies and adds.
  scaleDtype: (modelDtype) => (modelDtype === "F32" ? "F16" : modelDtype),
  offsets: "float",
  refusesRun({ order }) {
    if (order === "act") return "mlx has no act order: its groups lie side by side. Take group-aware, or the format gptq";
    return undefined;
  },
  refusesLinear({ inFeatures }, { groupSize }) {
    if (inFeatures % groupSize !== 0) return `its ${inFeatures} input channels are not a multiple of the group size ${groupSize}`;
    if (!GROUP_SIZES.includes(groupSize)) return `MLX takes groups of ${GROUP_SIZES.join(", ")}, not of ${groupSize}`;
    return undefined;
  },
  programs: ["mlx-lm"],
  notes: () => [],
  runNotes: () => [],
  layout(name, { outFeatures, inFeatures }, { bits, groupSize, scaleDtype }) {
    const groups = inFeatures / groupSize;
    return [
      { name: `${name}.weight`, dtype: "U32", shape: [outFeatures, wordsFor(inFeatures, bits)] },
      { name: `${name}.scales`, dtype: scaleDtype, shape: [outFeatures, groups] },
      { name: `${name}.biases`, dtype: scaleDtype, shape: [outFeatures, groups] },
    ];
  },
  pack(name, linear) {
    const { outFeatures, inFeatures, scheme, codes, scales } = linear;
    const bytes = [
      bytesOf(packBits(codes, alongRows(outFeatures, inFeatures, scheme.bits))),
      fromFloat32(scales, scheme.scaleDtype),
      fromFloat32(biasesOf(name, linear), scheme.scaleDtype),
    ];
    return mlx.layout(name, linear, scheme, "natural").map((spec, i): Tensor => ({ ...spec, bytes: bytes[i] }));
  },
  config(run, model = {}) {
    const config = configOf(run);
    // Programs look for the one, the Hub for the other.
    return { quantizationConfig: config, configKeys: { quantization: config, ...rotaryKeys(model) }, files: {} };
  },
  detect,
};

/** −scale · zero, or the offsets. Throws `InputError` where a product has more digits than the scale's dtype. */
function biasesOf(name: string, { inFeatures, scheme, scales, zeros, offsets }: QuantizedLinear): Float32Array {
  if (offsets !== undefined) return offsets;
  const biases = new Float32Array(scales.length);
  for (let k = 0; k < biases.length; k++) biases[k] = -scales[k] * zeros[k];
  const wrong = firstOther(roundAllToDtype(biases, scheme.scaleDtype), biases);
  if (wrong >= 0) {
    const groups = inFeatures / scheme.groupSize;
    throw new InputError(
      `${name}: group ${wrong % groups} of row ${Math.floor(wrong / groups)} has scale ${scales[wrong]} and zero point ${zeros[wrong]}, ` +
        `whose product ${scheme.scaleDtype} cannot hold, as mlx needs it`,
    );
  }
  return biases;
}

/** Where two arrays differ first; −1 if nowhere. */
function firstOther(a: Float32Array, b: Float32Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return i;
  return -1;
}

/** The commonest setting for all, and by name what differs. That a module is not quantized is seen by its tensors. */
function configOf({ linears }: FormatRun): Record<string, unknown> {
  const settings = new Map(linears.flatMap(({ name, scheme }) => (scheme ? [[name, JSON.stringify({ group_size: scheme.groupSize, bits: scheme.bits })]] : [])));
  const counts = new Map<string, number>();
  for (const setting of settings.values()) counts.set(setting, (counts.get(setting) ?? 0) + 1);
  const [base] = [...counts].reduce((best, next) => (next[1] > best[1] ? next : best));
  const others = [...settings].filter(([, setting]) => setting !== base);
  return { ...object(base), mode: "affine", ...Object.fromEntries(others.map(([name, setting]) => [name, object(setting)])) };
}

function object(json: string): Record<string, unknown> {
  return JSON.parse(json) as Record<string, unknown>;
}

interface Setting {
  readonly bits: Bits;
  readonly groupSize: number;
}

function detect(config: Record<string, unknown>): PackedFormat | undefined {
  if (config["quant_method"] !== undefined || config["group_size"] === undefined) return undefined;
  const base = settingOf(config, "quantization");
  const settings = new Map<string, Setting>();
  for (const [name, own] of Object.entries(config)) if (isJsonObject(own)) settings.set(name, settingOf(own, `quantization of ${name}`));
  return {
    format: "mlx",
    ...base,
    symmetric: false,
    suffixes: ["weight", "scales", "biases"],
    optionalSuffixes: [],
    bitsOf(shapes) {
      const [words, groups] = [shapes.get("weight")?.[1], shapes.get("scales")?.[1] ?? 0];
      return ([base, ...settings.values()].find(({ bits, groupSize }) => wordsFor(groups * groupSize, bits) === words) ?? base).bits;
    },
    unpack: (name, tensors) => unpack(name, tensors, settings.get(name) ?? base),
  };
}

function settingOf({ bits, group_size: groupSize, mode = "affine" }: Record<string, unknown>, where: string): Setting {
  if (mode !== "affine") throw new InputError(`config.json: ${where} says mode ${JSON.stringify(mode)}; of mlx only affine can be read`);
  if (!isHeld(BITS, bits)) throw new InputError(`config.json: ${where} says bits ${JSON.stringify(bits)}; mlx can be read with ${listed(BITS)}`);
  if (typeof groupSize !== "number" || !GROUP_SIZES.includes(groupSize)) {
    throw new InputError(`config.json: ${where} says group_size ${JSON.stringify(groupSize)}; expected ${GROUP_SIZES.join(", ")}`);
  }
  return { bits, groupSize };
}

function unpack(name: string, tensors: ReadonlyMap<string, Tensor>, { bits, groupSize }: Setting): QuantizedLinear {
  const scaleTensor = expectTensor(tensors, name, "scales", ["F16", "BF16", "F32"], [undefined, undefined]);
  const [outFeatures, groups] = scaleTensor.shape as [number, number];
  const inFeatures = groups * groupSize;
  const weight = expectTensor(tensors, name, "weight", ["U32"], [outFeatures, wordsFor(inFeatures, bits)]);
  const biasTensor = expectTensor(tensors, name, "biases", [scaleTensor.dtype], [outFeatures, groups]);
  const scales = toFloat32(scaleTensor.bytes, scaleTensor.dtype);
  const biases = toFloat32(biasTensor.bytes, biasTensor.dtype);
  expectFinite(scales, `${name}.scales`);
  expectFinite(biases, `${name}.biases`);
  // mlx-lm rounds its own biases by themselves: few are multiples of their scales.
  const zeros = integerZeros(scales, biases, bits);
  const middle = 1 << (bits - 1);
  return {
    outFeatures,
    inFeatures,
    scheme: { bits, groupSize, symmetric: zeros?.every((zero) => zero === middle) ?? false, scaleDtype: scaleTensor.dtype, ...(!zeros && { offsets: "float" }) },
    codes: unpackBits(wordsOf(weight), alongRows(outFeatures, inFeatures, bits)),
    scales,
    zeros: zeros ?? new Uint8Array(scales.length),
    ...(!zeros && { offsets: biases }),
  };
}
