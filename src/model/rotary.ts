import { quote } from "../safetensors/json.js";
import type { Fields } from "./fields.js";

/** How positions turn a head. As in transformers' modeling_rope_utils.py, rounded to float32 where it rounds. */
export interface Rope {
  readonly theta: number;
  readonly scaling: RopeScaling;
  /** The sequence length of a run decides in "dynamic" and "longrope". */
  at(positions: number): Turns;
}

/** What a rope's scaling was made of, for formats that store parameters instead of frequencies. */
export type RopeScaling =
  | { readonly type: "default" | "dynamic" | "longrope" | "llama3" }
  | { readonly type: "linear"; readonly factor: number }
  | {
    readonly type: "yarn"; readonly factor: number; readonly originalPositions: number;
    /** Turns in the original context above which a wave stays, and below which it is interpolated whole. */
    readonly betaFast: number; readonly betaSlow: number;
    /** The ramp between them runs between whole dimensions. */
    readonly truncate: boolean;
  };

interface Turns {
  /** [headDim / 2]: radians a position. */
  readonly inverseFrequencies: Float32Array<ArrayBuffer>;
  /** What cosines and sines are multiplied with. */
  readonly attentionFactor: number;
}

/** What all scalings build on. */
export interface RopeBase {
  readonly theta: number;
  /** Even. */
  readonly headDim: number;
  /** config.json's `max_position_embeddings`. */
  readonly maxPositions: number;
  /** config.json's own `original_max_position_embeddings`, which goes before the scaling's. */
  readonly originalPositions?: number;
}

/** Reads a scaling's parameters, checks them, and makes its `Rope`, theta aside. */
type Scaling = (parameters: Fields, base: RopeBase) => Omit<Rope, "theta">;

const SCALINGS: Readonly<Record<string, Scaling>> = { default: unscaled, linear, dynamic, yarn, longrope, llama3 };

/**
 * The rope of a config.json's `rope_scaling` or `rope_parameters`.
 * @throws InputError for a type that is not known, and for parameters that are missing or absurd.
 */
export function ropeOf(parameters: Fields, base: RopeBase): Rope {
  const field = parameters.has("rope_type") ? "rope_type" : "type";
  const type = parameters.string(field, "default");
  if (!Object.hasOwn(SCALINGS, type)) {
    throw parameters.wrong(field, `is ${quote(type)}, which Shardsmith cannot compute; it knows ${Object.keys(SCALINGS).join(", ")}`);
  }
  parameters.refuseUnless("partial_rotary_factor", 1, "Shardsmith turns whole heads only");
  const rope = { theta: base.theta, ...SCALINGS[type](parameters, base) };
  // Short and long: the sequence length decides in some.
  for (const positions of [1, 2 * base.maxPositions]) {
    const { inverseFrequencies, attentionFactor } = rope.at(positions);
    if (![...inverseFrequencies, attentionFactor].every(Number.isFinite)) {
      throw parameters.wrong(field, `is "${type}" with parameters that give frequencies which are not finite`);
    }
  }
  return rope;
}

/** The table [positions, headDim / 2] of cosines or sines that the attention takes. */
export function rotaryTable(rope: Rope, positions: number, wave: (radians: number) => number): Float32Array<ArrayBuffer> {
  const { inverseFrequencies, attentionFactor } = rope.at(positions);
  const width = inverseFrequencies.length;
  const table = new Float32Array(positions * width);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < width; i++) {
      // transformers rounds the angle to float32, which at late positions matters more than all else.
      table[position * width + i] = wave(Math.fround(position * inverseFrequencies[i])) * attentionFactor;
    }
  }
  return table;
}

function unscaled(_: Fields, base: RopeBase): Omit<Rope, "theta"> {
  return fixed({ type: "default" }, plainFrequencies(base));
}

/** kaiokendev's position interpolation. */
function linear(parameters: Fields, base: RopeBase): Omit<Rope, "theta"> {
  const factor = parameters.positive("factor");
  return fixed({ type: "linear", factor }, plainFrequencies(base).map((frequency) => frequency / factor));
}

/** NTK-aware scaling (bloc97, emozilla): beyond `maxPositions`, theta grows with the sequence. */
function dynamic(parameters: Fields, base: RopeBase): Omit<Rope, "theta"> {
  const factor = parameters.positive("factor");
  return {
    scaling: { type: "dynamic" },
    at(positions) {
      const stretch = (factor * Math.max(positions, base.maxPositions)) / base.maxPositions - (factor - 1);
      const theta = base.theta * stretch ** (base.headDim / (base.headDim - 2));
      return { inverseFrequencies: plainFrequencies({ ...base, theta }), attentionFactor: 1 };
    },
  };
}

/** YaRN (arXiv 2309.00071): high frequencies stay, low ones are interpolated, with a ramp between. */
function yarn(parameters: Fields, base: RopeBase): Omit<Rope, "theta"> {
  const original = originalPositions(parameters, base);
  const factor = parameters.positive("factor", base.maxPositions / original);
  const temperature = (mscale: number) => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  const attentionFactor = parameters.positive("attention_factor",
    parameters.has("mscale") && parameters.has("mscale_all_dim")
      ? temperature(parameters.positive("mscale")) / temperature(parameters.positive("mscale_all_dim"))
      : temperature(1));

  // The dimension whose wave turns this often in the original context.
  const dimensionOf = (turns: number) =>
    (base.headDim * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(base.theta));
  const truncate = parameters.boolean("truncate", true);
  const betaFast = parameters.positive("beta_fast", 32);
  const betaSlow = parameters.positive("beta_slow", 1);
  const [low, high] = [dimensionOf(betaFast), dimensionOf(betaSlow)];
  const from = Math.max(truncate ? Math.floor(low) : low, 0);
  let to = Math.min(truncate ? Math.ceil(high) : high, base.headDim - 1);
  if (to === from) to += 0.001;

  return fixed({ type: "yarn", factor, originalPositions: original, betaFast, betaSlow, truncate }, powers(base).map((power, i) => {
    const interpolated = Math.min(Math.max((i - from) / (to - from), 0), 1);
    return (1 / (factor * power)) * interpolated + (1 / power) * (1 - interpolated);
  }), attentionFactor);
}

/** LongRoPE (arXiv 2402.13753): a factor for each frequency, one set for short and one for long sequences. */
function longrope(parameters: Fields, base: RopeBase): Omit<Rope, "theta"> {
  const original = originalPositions(parameters, base);
  const factor = parameters.positive("factor", base.maxPositions / original);
  const attentionFactor = parameters.positive("attention_factor",
    factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)));
  const short = parameters.positives("short_factor", base.headDim / 2);
  const long = parameters.positives("long_factor", base.headDim / 2);
  return {
    scaling: { type: "longrope" },
    at(positions) {
      const factors = positions > original ? long : short;
      return { inverseFrequencies: powers(base).map((power, i) => 1 / (factors[i] * power)), attentionFactor };
    },
  };
}

/** Llama 3.1's: waves longer than the original context are stretched, short ones stay, with a ramp between. */
function llama3(parameters: Fields, base: RopeBase): Omit<Rope, "theta"> {
  const original = originalPositions(parameters, base);
  const factor = parameters.positive("factor");
  const low = parameters.positive("low_freq_factor");
  const high = parameters.positive("high_freq_factor");
  if (high <= low) throw parameters.wrong("high_freq_factor", `is ${high}; it must be above low_freq_factor, which is ${low}`);
  return fixed({ type: "llama3" }, plainFrequencies(base).map((frequency) => {
    const turns = (original * frequency) / (2 * Math.PI);
    const kept = Math.min(Math.max((turns - low) / (high - low), 0), 1);
    return ((1 - kept) * frequency) / factor + kept * frequency;
  }));
}

function originalPositions(parameters: Fields, base: RopeBase): number {
  return base.originalPositions ?? parameters.size("original_max_position_embeddings", base.maxPositions);
}

function fixed(scaling: RopeScaling, inverseFrequencies: Float32Array<ArrayBuffer>, attentionFactor = 1): Omit<Rope, "theta"> {
  return { scaling, at: () => ({ inverseFrequencies, attentionFactor }) };
}

/** theta^(2i / headDim). */
function powers({ theta, headDim }: RopeBase): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: headDim / 2 }, (_, i) => theta ** Math.fround((2 * i) / headDim));
}

function plainFrequencies(base: RopeBase): Float32Array<ArrayBuffer> {
  return powers(base).map((power) => 1 / power);
}
