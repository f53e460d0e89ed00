import type { CalibrationPart } from "../calibration/calibration-set.js";
import type { Engine } from "../engine/engine.js";
import type { Source } from "../source/source.js";
import { calibrationOf, type CalibrationText } from "./calibrate.js";
import { chooseBits, type BitsChoice } from "./choose-bits.js";
import type { DeviceEvent, RetryEvent } from "./events.js";
import { heldTogether } from "./held-together.js";
import type { QuantizeSettings } from "./options.js";
import { prepareRun } from "./prepare-run.js";
import type { ScratchFile } from "./sink.js";
import { surveyedBits } from "./survey-stage.js";
import { surveyModel, type Survey } from "./survey.js";
import { withEngine } from "./with-engine.js";

export interface SurveyJob {
  readonly source: Source;
  /** As for `quantize`: they say the group size, the format and the calibration tokens. */
  readonly settings: QuantizeSettings;
  readonly calibration: CalibrationText;
  readonly engine: () => Promise<Engine>;
  /** A new file for hidden states that memory cannot hold. */
  readonly scratch: () => Promise<ScratchFile>;
  readonly onEvent?: (event: SurveyEvent) => void;
  readonly signal?: AbortSignal;
}

export type SurveyEvent = { readonly type: "survey"; readonly layer: number; readonly layers: number; /** 0 … 1 */ readonly done: number } | DeviceEvent | RetryEvent;

/** What a survey found and, with `targetBits`, what `quantize` would make of it. */
export interface SurveyResult extends Survey {
  readonly source: string;
  /** What each text gave. */
  readonly calibration: readonly CalibrationPart[];
  readonly warnings: readonly string[];
  readonly choice?: BitsChoice;
}

/** Surveys a model for `quantize` of the same settings. Throws `InputError`. */
export async function runSurvey(job: SurveyJob): Promise<SurveyResult> {
  const { source, signal } = job;
  const prepared = await prepareRun(source, { ...job.settings, method: "gptq" });
  const { checkpoint, settings, plan } = prepared;
  const decoder = prepared.decoder!;
  const { set, warnings } = await calibrationOf(job.calibration, checkpoint, decoder, settings);
  const lost: string[] = [];
  const survey = await withEngine(job, (engine) =>
    surveyModel({
      engine, checkpoint, decoder, linears: plan.linears, bits: surveyedBits(heldTogether(settings).bits), sequences: set.sequences, memory: settings.memory, scratch: job.scratch, signal,
      onLayer: (layer) => job.onEvent?.(surveyed(layer, decoder.layers)),
      onLost: ({ message }) => void lost.push(`${message}; the survey went on without it`),
    }),
  );
  return { source: source.label, calibration: set.parts, warnings: [...warnings, ...lost], ...survey, ...(settings.targetBits !== undefined && { choice: chooseBits(prepared, survey, settings.targetBits) }) };
}

/** The event after a layer. Each carries four variants more than the one before. */
export function surveyed(layer: number, layers: number): Extract<SurveyEvent, { readonly type: "survey" }> {
  return { type: "survey", layer, layers, done: ((layer + 1) / layers) ** 2 };
}
