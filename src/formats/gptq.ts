import { InputError } from "../errors.js";
import type { QuantScheme } from "../quantize/scheme.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import { fromFloat32, toFloat32 } from "../safetensors/floats.js";
import type { Tensor } from "../safetensors/tensor.js";
import { alongColsTransposed, alongRowsTransposed, packBits, unpackBits, wordsFor } from "./bits.js";
import type { Format, FormatRun, LinearPlan, Note, PackedFormat } from "./format.js";
import { refusesOffsets } from "./integer-zeros.js";
import { marlinNotes } from "./marlin.js";
import { patternRegex, patternsOf, withFused } from "./module-patterns.js";
import { isHeld, listed, refusesBits } from "./refuses-bits.js";
import { severalBits } from "./several-bits.js";
import { bytesOf, expectFinite, expectTensor, transposed, wordsOf } from "./packed-tensors.js";

const PACKED_BITS = [2, 3, 4, 8] as const;
type PackedBits = (typeof PACKED_BITS)[number];

/** The group sizes that GPTQModel's kernels take, beside one group a row. */
const GROUP_SIZES = [16, 32, 64, 128, 256, 512, 1024];

/** What PyTorch's _weight_int4pack_mm_cpu takes, on which GPTQModel's CPU kernel for 4 bits stands. */
const ATEN_GROUP_SIZES = [32, 64, 128, 256];

/** GPTQModel's and AutoGPTQ's kernels work on tiles of 32 channels, both ways. */
const CHANNELS = 32;

/**
 * The `gptq` format of AutoGPTQ and GPTQModel: qweight int32 [in·b/32, out], qzeros int32 [G, out·b/32], scales f16 [G, out],
 * g_idx int32 [in]. Symmetric checkpoints are version 1, which stores z − 1 and which every reader takes; asymmetric ones are
 * version 2 (`gptq_v2`), which stores z itself, since z − 1 cannot say 0.
 */
export const gptq: Format = {
  name: "gptq",
  bits: PACKED_BITS,
  scaleDtype: () => "F16",
  refusesRun: ({ bits }) => refusesBits(gptq, bits, bits > 4 && bits < 8 ? OTHER_LAYOUT : undefined),
  refusesLinear,
  programs: ["transformers", "GPTQModel", "vLLM", "llama.cpp"],
  notes,
  runNotes: (schemes) => (severalBits(schemes) ? MIXED : []),
  layout(name, { outFeatures, inFeatures }, { bits, groupSize }) {
    const groups = inFeatures / groupSize;
    return [
      { name: `${name}.qweight`, dtype: "I32", shape: [wordsFor(inFeatures, bits), outFeatures] },
      { name: `${name}.qzeros`, dtype: "I32", shape: [groups, wordsFor(outFeatures, bits)] },
      { name: `${name}.scales`, dtype: "F16", shape: [groups, outFeatures] },
      { name: `${name}.g_idx`, dtype: "I32", shape: [inFeatures] },
    ];
  },
  pack(name, linear) {
    const { outFeatures, inFeatures, scheme, codes, scales, zeros } = linear;
    const { bits, groupSize, symmetric } = scheme;
    const groups = inFeatures / groupSize;
    const groupOf = linear.groupOf ?? naturalGroups(inFeatures, groupSize);
    const stored = symmetric ? lessOne(zeros) : zeros;
    const bytes = [
      bytesOf(packBits(codes, alongRowsTransposed(outFeatures, inFeatures, bits))),
      bytesOf(packBits(stored, alongColsTransposed(outFeatures, groups, bits))),
      fromFloat32(transposed(scales, outFeatures, groups), "F16"),
      bytesOf(groupOf),
    ];
    return gptq.layout(name, linear, scheme, "natural").map((spec, i): Tensor => ({ ...spec, bytes: bytes[i] }));
  },
  config(run) {
    const config = configOf(run);
    return { quantizationConfig: config, files: { "quantize_config.json": config } };
  },
  detect,
};

/** Seen in GPTQModel 7.7. */
const OTHER_LAYOUT = "GPTQModel keeps 5 to 7 in a layout of its own (gptq_p), which only it reads";

const MIXED: Note[] = [
  {
    program: "transformers", loads: "no",
    text: "GPTQModel, vLLM and SGLang read several bits in one checkpoint from `dynamic`; transformers does not: for it, take the format compressed-tensors",
  },
  { program: "llama.cpp", loads: "no", text: "llama.cpp's converter takes gptq with one number of bits for all linears only" },
];

function refusesLinear({ outFeatures, inFeatures }: Shape, scheme: QuantScheme): string | undefined {
  const { groupSize } = scheme;
  if (inFeatures % groupSize !== 0) return `its ${inFeatures} input channels are not a multiple of the group size ${groupSize}`;
  if (groupSize !== inFeatures && !GROUP_SIZES.includes(groupSize)) {
    return `GPTQModel takes groups of ${GROUP_SIZES.join(", ")} or all input channels, not of ${groupSize}`;
  }
  if (inFeatures % CHANNELS !== 0) return `GPTQModel's kernels take input channels in multiples of ${CHANNELS}, and it has ${inFeatures}`;
  if (outFeatures % CHANNELS !== 0) return `GPTQModel's kernels take output channels in multiples of ${CHANNELS}, and it has ${outFeatures}`;
  return refusesOffsets("gptq", scheme);
}

function notes(linear: Shape, { bits, groupSize, symmetric }: QuantScheme): Note[] {
  const found: Note[] = [];
  const note = (program: Note["program"], loads: Note["loads"], text: string): void => void found.push({ program, loads, text });
  if ((bits !== 4 && bits !== 8) || !symmetric) {
    const instead = bits === 4 ? "; for asymmetric 4 bits take the format awq" : "";
    note("vLLM", "no", `vLLM takes gptq in 4 and 8 bits and symmetric only${instead}`);
  }
  if (![32, 64, 128, linear.inFeatures].includes(groupSize)) note("vLLM", "no", "vLLM takes gptq in groups of 32, 64, 128 or all input channels only");
  if (bits === 3) note("llama.cpp", "no", "llama.cpp's converter takes gptq in 2, 4 and 8 bits only");
  if (bits === 4 && !ATEN_GROUP_SIZES.includes(groupSize)) {
    note("GPTQModel", "so", `the kernel that GPTQModel chooses on a CPU takes groups of ${ATEN_GROUP_SIZES.join(", ")}, not of ${groupSize}; its other kernels do (backend "gptq_torch")`);
  }
  return [...found, ...marlinNotes(linear)];
}

/** Settings of one module, as the config words them. */
interface Setting {
  readonly bits: number;
  readonly group_size: number;
}

function settingOf(scheme: QuantScheme, inFeatures: number, run: FormatRun): Setting {
  return { bits: scheme.bits, group_size: run.groupSize === -1 && scheme.groupSize === inFeatures ? -1 : scheme.groupSize };
}

/**
 * The setting of most linears is the config's own; others are said in `dynamic`, which GPTQModel and vLLM read and
 * transformers does not. A module that stays as it is is said twice: in `dynamic` for the former, and by leaving it out of
 * `modules_in_block_to_quantize` for transformers, vLLM and SGLang.
 */
function configOf(run: FormatRun): Record<string, unknown> {
  const keyOf = (linear: LinearPlan): string | undefined =>
    linear.scheme && JSON.stringify(settingOf(linear.scheme, linear.inFeatures, run));
  const counts = new Map<string, number>([[JSON.stringify({ bits: run.bits, group_size: run.groupSize }), 0]]);
  for (const linear of run.linears) {
    const key = keyOf(linear);
    if (key !== undefined) counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const [base] = [...counts].reduce((best, next) => (next[1] > best[1] ? next : best));
  const lmHead = run.linears.some(({ name }) => name === run.lmHead);
  const dynamic: Record<string, unknown> = {};
  const unquantized = patternsOf(run.linears, (linear) => linear.scheme === undefined);
  for (const pattern of withFused(unquantized)) dynamic[`-:${patternRegex(pattern)}`] = {};
  for (const key of counts.keys()) {
    if (key === base) continue;
    for (const pattern of withFused(patternsOf(run.linears, (linear) => keyOf(linear) === key))) {
      dynamic[`+:${patternRegex(pattern)}`] = JSON.parse(key) as Setting;
    }
  }
  return {
    quant_method: "gptq",
    ...(JSON.parse(base) as Setting),
    desc_act: run.order === "act",
    act_group_aware: run.order === "group-aware",
    sym: run.symmetric,
    lm_head: lmHead,
    // transformers looks for packed linears in one list of layers only, and would make up an lm_head; so named, it looks everywhere.
    ...(lmHead ? { block_name_to_quantize: "" } : {}),
    checkpoint_format: run.symmetric ? "gptq" : "gptq_v2",
    pack_dtype: "int32",
    // transformers refuses a damping outside (0, 1).
    ...(run.damp > 0 && run.damp < 1 ? { damp_percent: run.damp } : {}),
    true_sequential: true,
    static_groups: false,
    ...(Object.keys(dynamic).length > 0 ? { dynamic } : {}),
    ...(unquantized.length > 0
      ? { modules_in_block_to_quantize: patternsOf(run.linears, (linear) => linear.scheme !== undefined).map(({ name }) => [name]) }
      : {}),
    meta: { quantizer: [run.quantizer] },
  };
}

function detect(config: Record<string, unknown>): PackedFormat | undefined {
  if (config["quant_method"] !== "gptq") return undefined;
  const bits = config["bits"];
  const groupSize = config["group_size"] ?? -1;
  const version = config["checkpoint_format"] ?? config["format"] ?? "gptq";
  const packDtype = config["pack_dtype"] ?? "int32";
  if (!isHeld(PACKED_BITS, bits)) throw new InputError(`quantization_config says bits ${JSON.stringify(bits)}; gptq holds ${listed(PACKED_BITS)}`);
  if (typeof groupSize !== "number" || !Number.isSafeInteger(groupSize) || (groupSize < 1 && groupSize !== -1)) {
    throw new InputError(`quantization_config says group_size ${JSON.stringify(groupSize)}; expected -1 or a positive integer`);
  }
  if (version !== "gptq" && version !== "gptq_v2") {
    throw new InputError(`quantization_config says checkpoint_format ${JSON.stringify(version)}; only gptq and gptq_v2 can be read`);
  }
  if (packDtype !== "int32") throw new InputError(`quantization_config says pack_dtype ${JSON.stringify(packDtype)}; only int32 can be read`);
  // Where single modules have settings of their own, a module's shapes say them; else they must agree with the config.
  const uniform = typeof config["dynamic"] !== "object" || config["dynamic"] === null;
  return {
    format: "gptq",
    bits,
    groupSize,
    symmetric: config["sym"] !== false,
    suffixes: ["qweight", "qzeros", "scales"],
    optionalSuffixes: ["g_idx"],
    bitsOf: (shapes) => bitsByShape(shapes, bits),
    unpack: (name, tensors) => unpack(name, tensors, { bits, groupSize, version, uniform }),
  };
}

/** 32 bits a word, over the input channels that g_idx counts. */
function bitsByShape(shapes: ReadonlyMap<string, readonly number[]>, said: number): number {
  const words = shapes.get("qweight")?.[0] ?? 0;
  const channels = shapes.get("g_idx")?.[0] ?? 0;
  return PACKED_BITS.find((bits) => channels > 0 && wordsFor(channels, bits) === words) ?? said;
}

/**
 * What version 1 took from each word of zero points. It is added back to whole words, as GPTQModel took it, so that a borrow
 * from a neighbouring code is undone; codes of 3 bits are handled one by one, there and here.
 */
const ONES: Record<PackedBits, number> = { 2: 0x55555555, 3: 0, 4: 0x11111111, 8: 0x01010101 };

interface Packed {
  readonly bits: PackedBits;
  readonly groupSize: number;
  readonly version: "gptq" | "gptq_v2";
  readonly uniform: boolean;
}

function unpack(name: string, tensors: ReadonlyMap<string, Tensor>, packed: Packed): QuantizedLinear {
  const qweight = expectTensor(tensors, name, "qweight", ["I32"], [undefined, undefined]);
  const [words, outFeatures] = qweight.shape as [number, number];
  const gIdx = tensors.has("g_idx") ? expectTensor(tensors, name, "g_idx", ["I32"], [undefined]) : undefined;
  // Without g_idx nothing but the config says how many channels the words hold.
  const inFeatures = gIdx ? gIdx.shape[0] : Math.floor((words * 32) / packed.bits);
  const bits = [packed.bits, ...(packed.uniform ? [] : PACKED_BITS)].find((b) => wordsFor(inFeatures, b) === words);
  if (bits === undefined) {
    throw new InputError(`${name}.qweight has shape [${qweight.shape.join(", ")}], which does not hold ${inFeatures} input channels of ${packed.bits} bits`);
  }
  const scalesTensor = expectTensor(tensors, name, "scales", ["F16", "BF16", "F32"], [undefined, outFeatures]);
  const groups = scalesTensor.shape[0];
  const said = packed.groupSize === -1 ? inFeatures : packed.groupSize;
  const groupSize = packed.uniform || said * groups === inFeatures ? said : inFeatures / groups;
  if (!Number.isInteger(groupSize) || groupSize * groups !== inFeatures) {
    throw new InputError(`${name}.scales has ${groups} groups; ${inFeatures} input channels in groups of ${said} are expected`);
  }
  const zerosTensor = expectTensor(tensors, name, "qzeros", ["I32"], [groups, wordsFor(outFeatures, bits)]);
  const scales = toFloat32(scalesTensor.bytes, scalesTensor.dtype);
  expectFinite(scales, `${name}.scales`);
  const zeroWords = packed.version === "gptq" ? wordsOf(zerosTensor).map((word) => word + ONES[bits]) : wordsOf(zerosTensor);
  const zeros = unpackBits(zeroWords, alongColsTransposed(outFeatures, groups, bits));
  if (packed.version === "gptq" && bits === 3) for (let i = 0; i < zeros.length; i++) zeros[i] = (zeros[i] + 1) & 7;
  const groupOf = gIdx && groupsOf(gIdx, name, groups, groupSize);
  return {
    outFeatures,
    inFeatures,
    scheme: { bits, groupSize, symmetric: zeros.every((z) => z === 1 << (bits - 1)), scaleDtype: scalesTensor.dtype },
    codes: unpackBits(wordsOf(qweight), alongRowsTransposed(outFeatures, inFeatures, bits)),
    scales: transposed(scales, groups, outFeatures),
    zeros,
    ...(groupOf ? { groupOf } : {}),
  };
}

/** g_idx, checked; undefined where the groups lie side by side. */
function groupsOf(tensor: Tensor, name: string, groups: number, groupSize: number): Int32Array<ArrayBuffer> | undefined {
  const groupOf = new Int32Array(wordsOf(tensor).slice().buffer);
  let natural = true;
  groupOf.forEach((group, i) => {
    if (group < 0 || group >= groups) throw new InputError(`${name}.g_idx holds ${group} at ${i}; there are ${groups} groups`);
    natural &&= group === Math.floor(i / groupSize);
  });
  return natural ? undefined : groupOf;
}

function naturalGroups(inFeatures: number, groupSize: number): Int32Array<ArrayBuffer> {
  const groupOf = new Int32Array(inFeatures);
  for (let i = 0; i < inFeatures; i++) groupOf[i] = Math.floor(i / groupSize);
  return groupOf;
}

function lessOne(zeros: Uint8Array): Uint8Array<ArrayBuffer> {
  const stored = new Uint8Array(zeros.length);
  for (let i = 0; i < zeros.length; i++) stored[i] = zeros[i] - 1;
  return stored;
}

interface Shape {
  readonly outFeatures: number;
  readonly inFeatures: number;
}
