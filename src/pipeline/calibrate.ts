import type { CalibrationSet } from "../calibration/calibration-set.js";
import { chatTemplateOf, type ChatTemplate } from "../calibration/chat-template.js";
import { buildCalibrationSet, type TextSource } from "../calibration/sample.js";
import type { Decoder } from "../model/decoder.js";
import type { Checkpoint } from "../source/checkpoint.js";
import type { ResolvedSettings } from "./options.js";
import { sequenceLengthOf } from "./prepare-run.js";
import { tokenizerOf } from "./tokenizer.js";

/** What to calibrate on. */
export interface CalibrationTexts {
  readonly texts: readonly TextSource[];
  /** Why these, where nobody chose them. */
  readonly why?: string;
  /** What was to be had, and was not. */
  readonly warnings?: readonly string[];
}

/** Opens the texts, of which the seed chooses what is drawn. */
export type CalibrationText = (seed: number) => Promise<CalibrationTexts>;

export interface Calibration {
  readonly set: CalibrationSet;
  readonly sequenceLength: number;
  readonly why?: string;
  readonly warnings: readonly string[];
}

/** The token sequences of a run. Throws `InputError` for what the text, the tokenizer or the model does not allow. */
export async function calibrationOf(text: CalibrationText, checkpoint: Checkpoint, decoder: Decoder, settings: ResolvedSettings): Promise<Calibration> {
  const { samples, seed } = settings;
  const sequenceLength = sequenceLengthOf(settings.sequenceLength, decoder.maxPositions, checkpoint.source.label);
  const tokenizer = await tokenizerOf(checkpoint);
  const { texts, why, warnings = [] } = await text(seed);
  const set = await buildCalibrationSet(texts, tokenizer, { samples, sequenceLength, seed, vocabSize: decoder.vocabSize, chatTemplate: () => templateOf(checkpoint) });
  return { set, sequenceLength, ...(why !== undefined && { why }), warnings: [...warnings, ...worseThanAsked(set, samples * sequenceLength)] };
}

async function templateOf(checkpoint: Checkpoint): Promise<ChatTemplate | undefined> {
  const text = async (name: string): Promise<string | undefined> => (checkpoint.files.has(name) ? new TextDecoder().decode(await checkpoint.readFile(name)) : undefined);
  return chatTemplateOf(await text("chat_template.jinja"), await text("tokenizer_config.json"));
}

function worseThanAsked(set: CalibrationSet, asked: number): string[] {
  const warnings: string[] = [];
  if (set.tokens < asked) warnings.push(`${set.origin} gives ${String(set.tokens)} tokens, and ${String(asked)} were asked for: calibration uses what there is`);
  for (const { origin, conversations } of set.parts) {
    if (conversations === undefined || conversations.templated === conversations.all) continue;
    const { all, templated, refusal = "there is none" } = conversations;
    warnings.push(`${origin}: ${String(all - templated)} of ${String(all)} conversations did not go through the model's chat template (${refusal}); their turns were joined by blank lines`);
  }
  return warnings;
}
