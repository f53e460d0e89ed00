import type { CalibrationSet } from "../calibration/calibration-set.js";
import { buildCalibrationSet } from "../calibration/sample.js";
import type { Decoder } from "../model/decoder.js";
import type { Checkpoint } from "../source/checkpoint.js";
import type { ResolvedSettings } from "./options.js";
import { sequenceLengthOf } from "./prepare-run.js";
import { tokenizerOf } from "./tokenizer.js";

/** Calibration text and where it came from. */
export type CalibrationText = () => Promise<{ readonly documents: readonly string[]; readonly origin: string }>;

export interface Calibration {
  readonly set: CalibrationSet;
  readonly sequenceLength: number;
}

/** The token sequences of a run. Throws `InputError` for what the text, the tokenizer or the model does not allow. */
export async function calibrationOf(text: CalibrationText, checkpoint: Checkpoint, decoder: Decoder, settings: ResolvedSettings): Promise<Calibration> {
  const sequenceLength = sequenceLengthOf(settings.sequenceLength, decoder.maxPositions, checkpoint.source.label);
  const tokenizer = await tokenizerOf(checkpoint);
  const { documents, origin } = await text();
  const set = await buildCalibrationSet(documents, tokenizer, { samples: settings.samples, sequenceLength, seed: settings.seed, origin, vocabSize: decoder.vocabSize });
  return { set, sequenceLength };
}
