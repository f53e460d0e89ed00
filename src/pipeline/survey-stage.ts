import type { Engine } from "../engine/engine.js";
import type { Stage } from "../model/decoder.js";
import { outlierChannels, type OutlierChannel } from "../quantize/outliers.js";
import { roundingErrors, type InputHessian } from "../quantize/rounding-errors.js";
import { BITS, type Bits, type QuantScheme } from "../quantize/scheme.js";
import type { Checkpoint } from "../source/checkpoint.js";

/** Loudness over the median from which a channel is an outlier. */
const OUTLIER_FACTOR = 6;
/** Kurtosis from which a row is heavy-tailed; 3 is normal. */
const HEAVY_KURTOSIS = 6;
/** Bits of the rounding whose effect is followed: coarse enough to stand out, fine enough for effects to add up. */
const REFERENCE_BITS = 3;

/** The bits at which it measures errors: those that formats hold, and those of the rounding that it follows. */
export function surveyedBits(held: readonly Bits[]): readonly Bits[] {
  return BITS.filter((bits) => bits === REFERENCE_BITS || held.includes(bits));
}

/** What was seen of one linear in the original model. */
export interface SurveyedLinear {
  readonly name: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** tr(ΔHΔᵀ) / tr(WHWᵀ): the share of the output's energy that rounding to nearest, with scale search, would turn into error. */
  readonly errors: readonly { readonly bits: Bits; readonly relativeError: number }[];
  /** Rows of which the kurtosis is above 6, and the largest kurtosis. */
  readonly heavyRows: number;
  readonly largestKurtosis: number;
}

/** Linears that share their input, and are treated alike. */
export interface SurveyedGroup {
  readonly layer: number;
  /** As "mlp in". */
  readonly stage: string;
  readonly linears: readonly SurveyedLinear[];
  /** Input channels whose root mean square is more than six times the median of all, the loudest first. */
  readonly outliers: readonly OutlierChannel[];
  /** Σ tr(ΔHΔᵀ) of its linears at some bits, over that at 3 bits. */
  readonly errors: readonly { readonly bits: Bits; readonly ratio: number }[];
  /** KL divergence of the model's predictions, in nats, once these linears alone are rounded to 3 bits. */
  readonly divergence: number;
}

/** A group before its effect was followed. */
export type MeasuredGroup = Omit<SurveyedGroup, "divergence">;

/** What measuring the stages of a survey takes. */
export interface SurveyTools {
  readonly engine: Engine;
  readonly checkpoint: Checkpoint;
  /** As `surveyedBits` says. */
  readonly bits: readonly Bits[];
  readonly signal: AbortSignal | undefined;
}

/**
 * Looks for outliers in the Hessian of a stage's input, and measures what rounding to nearest would cost its linears, treated alike.
 * @returns also their weights rounded to 3 bits, by tensor name
 */
export async function measureStage(
  { engine, checkpoint, bits: allBits, signal }: SurveyTools, layer: number, stage: Stage, scheme: QuantScheme, hessian: InputHessian,
): Promise<{ group: MeasuredGroup; rounded: Map<string, Float32Array<ArrayBuffer>> }> {
  const keepAt = allBits.indexOf(REFERENCE_BITS);
  const rounded = new Map<string, Float32Array<ArrayBuffer>>();
  const linears: SurveyedLinear[] = [];
  const sums = allBits.map(() => 0);
  for (const { name, outFeatures, inFeatures } of stage.linears) {
    signal?.throwIfAborted();
    const weight = { rows: outFeatures, cols: inFeatures, data: await checkpoint.readFloat32(`${name}.weight`) };
    const found = await roundingErrors(engine, weight, allBits.map((bits) => ({ ...scheme, bits })), hessian, keepAt);
    found.errors.forEach((error, i) => (sums[i] += error));
    rounded.set(`${name}.weight`, found.rounded);
    linears.push({
      name, outFeatures, inFeatures,
      errors: allBits.map((bits, i) => ({ bits, relativeError: found.energy > 0 ? found.errors[i] / found.energy : 0 })),
      heavyRows: found.kurtosis.filter((value) => value > HEAVY_KURTOSIS).length,
      largestKurtosis: found.kurtosis.reduce((a, b) => Math.max(a, b), 0),
    });
  }
  const n = stage.linears[0].inFeatures;
  const diagonal = Float64Array.from({ length: n }, (_, j) => hessian.matrix[j * n + j]);
  return {
    rounded,
    group: {
      layer, stage: stage.name, linears, outliers: outlierChannels(diagonal, OUTLIER_FACTOR),
      errors: allBits.map((bits, i) => ({ bits, ratio: sums[keepAt] > 0 ? sums[i] / sums[keepAt] : 0 })),
    },
  };
}
