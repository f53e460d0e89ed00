import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { evaluationText } from "../pipeline/calibration-text.js";
import { cardBeside, EVALUATION_FILE, reportBeside, savedEvaluation } from "../pipeline/card.js";
import { type EvaluateEvent, type EvaluateSettings, type Evaluation, runEvaluate } from "../pipeline/evaluate.js";
import { openSpillFile } from "../pipeline/spill-file.js";
import { CARD_FILE } from "../publish/card.js";
import { openSource } from "../source/open-source.js";
import { engineOf } from "./engine.js";
import { patienceOf } from "./patience.js";
import { readerOf } from "./reader.js";
import { placesOf } from "./texts.js";

export interface EvaluateOptions extends EvaluateSettings {
  /** A checkpoint, plain or quantized in one of our formats: its folder, or as for `quantize` a repo on the Hub. */
  readonly model: string;
  /** The checkpoint that it was made from: adds KL divergence and top-1 agreement. */
  readonly against?: string;
  /**
   * `builtin` (default), the text that comes with Shardsmith; a text, a JSONL file, or a folder of them; the name of a set in
   * calibration-data/data-sets.json, of which the part that is held out is taken, where it has one; or a data set on the Hub, `org/dataset[:config][/split]`.
   */
  readonly text?: string;
  readonly threads?: number;
  /** Keep the result beside the model, which Shardsmith made, and in its model card. Default false. */
  readonly save?: boolean;
  readonly onEvent?: (event: EvaluateEvent) => void;
  readonly signal?: AbortSignal;
}

/** Perplexity of a checkpoint on a text and, beside another, how far apart their predictions are. Layer by layer, like `quantize`. */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { model, against, text, threads, save, onEvent, signal, ...settings } = options;
  const engine = engineOf(threads);
  // Refused before an hour's work.
  const report = save === true ? await reportBeside(readerOf(model), model) : undefined;
  const patience = patienceOf(signal, onEvent);
  const sources = [await openSource(model, patience)];
  try {
    if (against !== undefined) sources.push(await openSource(against, patience));
    const evaluation = await runEvaluate({
      model: sources[0], against: sources[1], settings,
      text: () => evaluationText(text, placesOf(patience)),
      engine,
      scratch: openSpillFile,
      ...(onEvent && { onEvent }),
      ...(signal && { signal }),
    });
    if (report !== undefined) {
      await writeFile(join(model, EVALUATION_FILE), savedEvaluation(evaluation, report));
      await writeFile(join(model, CARD_FILE), await cardBeside(readerOf(model), model));
    }
    return evaluation;
  } finally {
    for (const source of sources) await source.close();
  }
}
