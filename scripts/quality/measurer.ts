import { conversationsAndTextsOf } from "#src/calibration/documents.js";
import type { Engine } from "#src/engine/engine.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { divergenceOf, perplexityOf, type Predictions } from "#src/evaluate/predictions.js";
import { batchesOf, tokensOf, type Batch } from "#src/pipeline/batches.js";
import { evaluationWindows, finalStates, predict, type Pass } from "#src/pipeline/evaluate.js";
import { openModel, type Model } from "#src/pipeline/model.js";
import { openSpillFile } from "#src/pipeline/spill-file.js";
import { MemoryBudget, type Spool } from "#src/pipeline/spool.js";
import { openFolder } from "#src/source/folder.js";
import { readTextFiles } from "#src/source/text-files.js";

/** How far a checkpoint is from its original; in nats. */
export interface Measured {
  readonly kl: number;
  readonly klError: number;
  readonly top1: number;
  readonly perplexity: number;
  readonly perplexityError: number;
  readonly originalPerplexity: number;
  readonly tokens: number;
  /** KL divergence summed over each window, and the window's predicted tokens: two checkpoints are compared window by window. */
  readonly windows: readonly (readonly [sum: number, tokens: number])[];
}

/** Measures checkpoints as `shardsmith eval --against` does, with the original's states computed once. */
export class Measurer {
  private constructor(
    private readonly original: Model,
    private readonly originalStates: Spool,
    private readonly pass: Pass,
    private readonly closeSource: () => Promise<void>,
    readonly windows: readonly Uint32Array[],
  ) {}

  static async open(folder: string, text: string, sequenceLength: number, maxTokens: number): Promise<Measurer> {
    const source = await openFolder(folder);
    const original = await openModel(source);
    const { windows } = await evaluationWindows(original, { documents: conversationsAndTextsOf(await readTextFiles(text)), origin: text }, sequenceLength, maxTokens);
    // Equal lengths side by side make full batches.
    windows.sort((a, b) => b.length - a.length);
    const engine: Engine = await createOnnxEngine();
    const pass = { engine, batches: batchesOf(windows), budget: new MemoryBudget(2e9), scratch: openSpillFile, signal: undefined };
    return new Measurer(original, await finalStates(pass, original, () => undefined), pass, () => source.close(), windows);
  }

  async close(): Promise<void> {
    await this.originalStates.close();
    await this.pass.engine.close();
    await this.closeSource();
  }

  async measure(folder: string): Promise<Measured> {
    const source = await openFolder(folder);
    try {
      const model = await openModel(source);
      const states = await finalStates(this.pass, model, () => undefined);
      const predictions = await predict(this.pass, [model, states], [this.original, this.originalStates]);
      await states.close();
      const { klDivergence: kl, klDivergenceError: klError, top1Agreement: top1 } = divergenceOf(predictions);
      const { perplexity, perplexityError, tokens } = perplexityOf(predictions, "model");
      const windows = predictions.flatMap((of, i) => windowsOf(of, this.pass.batches[i])).map((window) => {
        const { tokens: n } = perplexityOf([window], "model");
        return [divergenceOf([window]).klDivergence * n, n] as const;
      });
      return { kl, klError, top1, perplexity, perplexityError, originalPerplexity: perplexityOf(predictions, "reference").perplexity, tokens, windows };
    } finally {
      await source.close();
    }
  }
}

/** What is known of a batch, sequence by sequence. */
function windowsOf({ targets, model, reference, cross }: Predictions, batch: Batch): Predictions[] {
  const length = tokensOf(batch) / batch.length;
  return batch.map((_, i) => {
    const part = <A extends Float64Array | Int32Array>(all: A): A => all.subarray(i * length, (i + 1) * length) as A;
    const side = ({ max, sum, argmax, target }: Predictions["model"]) => ({ max: part(max), sum: part(sum), argmax: part(argmax), target: part(target) });
    return { targets: part(targets), model: side(model), ...(reference && { reference: side(reference) }), cross: part(cross) };
  });
}
