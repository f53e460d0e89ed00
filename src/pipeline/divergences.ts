import type { Engine } from "../engine/engine.js";
import { divergenceOf, noPredictions } from "../evaluate/predictions.js";
import type { Decoder } from "../model/decoder.js";
import type { ReadRows } from "../model/weights.js";
import type { Spool } from "./spool.js";
import { HeadSlice, SliceSums, vocabularySlices } from "./vocabulary.js";

/**
 * KL divergence, mean over positions, of the predictions that follow from each of `count` variants' final states to those that follow
 * from the unchanged model's: lm_head slice by slice, each read once.
 * @param finals what lm_head takes of `positions` positions: first of the unchanged model, then of each variant; they stay there
 */
export async function divergencesFrom(
  engine: Engine, decoder: Decoder, loadRows: ReadRows, finals: Spool, positions: number, count: number, signal: AbortSignal | undefined,
): Promise<number[]> {
  // Every position counts, whatever the next token is.
  const known = Array.from({ length: count }, () => noPredictions(new Int32Array(positions), true));
  for (const tokens of vocabularySlices(decoder.vocabSize)) {
    const slice = await HeadSlice.open(engine, decoder, loadRows, tokens);
    const reference = await slice.logitsOf(finals, 0);
    const sums = new SliceSums(engine, known);
    for (let i = 0; i < count; i += 1) {
      signal?.throwIfAborted();
      await sums.add(i, { first: tokens[0], width: tokens.length, model: await slice.logitsOf(finals, i + 1), reference: reference.slice() });
    }
    await sums.done();
    engine.recycle({ batch: 1, tokens: positions, width: tokens.length, data: reference });
    await slice.release();
  }
  return known.map((predictions) => Math.max(0, divergenceOf([predictions]).klDivergence));
}
