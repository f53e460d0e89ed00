import type { Activations, Engine } from "../engine/engine.js";
import { addSlice, divergenceOf, noPredictions } from "../evaluate/predictions.js";
import type { Decoder } from "../model/decoder.js";
import { capLogits, logitsGraph } from "../model/head.js";
import type { Checkpoint } from "../source/checkpoint.js";
import type { Spool } from "./spool.js";

/** Rows of lm_head that are multiplied at a time. */
const VOCABULARY_SLICE = 8192;

/**
 * KL divergence, mean over positions, of the predictions that follow from each of `count` variants' final states to those that follow
 * from `clean`: lm_head slice by slice, each read once.
 * @param clean what lm_head takes of the unchanged model
 * @param variants the same of each variant, [i].x; they stay there
 */
export async function divergencesFrom(
  engine: Engine, checkpoint: Checkpoint, decoder: Decoder, clean: Activations, variants: Spool, count: number, signal: AbortSignal | undefined,
): Promise<number[]> {
  const positions = clean.batch * clean.tokens;
  // Every position counts, whatever the next token is.
  const known = Array.from({ length: count }, () => noPredictions(new Int32Array(positions), true));
  let x = clean;
  for (let first = 0; first < decoder.vocabSize; first += VOCABULARY_SLICE) {
    const rows = Array.from({ length: Math.min(VOCABULARY_SLICE, decoder.vocabSize - first) }, (_, i) => first + i);
    const graph = await engine.prepare(logitsGraph(decoder.hiddenSize, rows.length), new Map([["lm_head", await checkpoint.readRows(decoder.lmHead.tensor, rows)]]));
    const logitsOf = async (of: Activations): Promise<{ x: Activations; logits: Activations }> => {
      const { inputs, outputs } = await graph.run({ x: of });
      capLogits(outputs["logits"].data, decoder.lmHead.softcap);
      return { x: inputs["x"], logits: outputs["logits"] };
    };
    const reference = await logitsOf(x);
    x = reference.x;
    const sums: Promise<void>[] = [];
    for (let i = 0; i < count; i += 1) {
      signal?.throwIfAborted();
      const wasHeld = variants.isInMemory(i);
      const ran = await logitsOf((await variants.take(i))["x"]);
      variants.restore(i, { x: ran.x }, wasHeld).forEach((activations) => { engine.recycle(activations); });
      const slice = { first, width: rows.length, model: ran.logits.data, reference: reference.logits.data.slice() };
      // Sums run beside the next product; few at a time, since each holds its logits.
      if (sums.length >= engine.parallelism) await sums.shift();
      const sum = engine
        .call<Awaited<ReturnType<typeof addSlice>>["result"]>(PREDICTIONS, "addSlice", [known[i], slice], [slice.model.buffer, slice.reference.buffer])
        .then((back) => {
          known[i] = back.predictions;
          for (const data of [back.slice.model, back.slice.reference!]) engine.recycle({ ...ran.logits, data });
        });
      // Awaited later; until then an error is not unheard.
      sum.catch(() => undefined);
      sums.push(sum);
    }
    await Promise.all(sums);
    engine.recycle(reference.logits);
    await graph.release();
  }
  engine.recycle(x);
  return known.map((predictions) => Math.max(0, divergenceOf([predictions]).klDivergence));
}

const PREDICTIONS = new URL("../evaluate/predictions.js", import.meta.url).href;
