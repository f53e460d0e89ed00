import type { Engine, PreparedGraph } from "../engine/engine.js";
import type { addSlice, LogitSlice, Predictions } from "../evaluate/predictions.js";
import type { Decoder } from "../model/decoder.js";
import { capLogits, logitsGraph } from "../model/head.js";
import type { ReadRows } from "../model/weights.js";
import type { Spool } from "./spool.js";

/** Rows of lm_head that are multiplied at a time: bounds the logits in memory to 32 MB for 1,024 tokens. */
const VOCABULARY_SLICE = 8192;

/** The tokens of a vocabulary, slice by slice. */
export function* vocabularySlices(vocabSize: number): Generator<number[]> {
  for (let first = 0; first < vocabSize; first += VOCABULARY_SLICE) {
    yield Array.from({ length: Math.min(VOCABULARY_SLICE, vocabSize - first) }, (_, i) => first + i);
  }
}

/** Some rows of a model's lm_head, ready to be multiplied. */
export class HeadSlice {
  private constructor(private readonly engine: Engine, private readonly graph: PreparedGraph, private readonly softcap: number | undefined) {}

  static async open(engine: Engine, { lmHead, hiddenSize }: Decoder, loadRows: ReadRows, rows: readonly number[]): Promise<HeadSlice> {
    const weight = await loadRows(lmHead.tensor, rows);
    return new HeadSlice(engine, await engine.prepare(logitsGraph(hiddenSize, rows.length), new Map([["lm_head", weight]])), lmHead.softcap);
  }

  /** Logits [positions, rows] that follow from a batch's final states `h`, which stay in the spool. */
  async logitsOf(spool: Spool, batch: number): Promise<Float32Array<ArrayBuffer>> {
    const wasHeld = spool.isInMemory(batch);
    const { h } = await spool.take(batch);
    const { inputs, outputs } = await this.graph.run({ x: h });
    spool.restore(batch, { h: inputs["x"] }, wasHeld).forEach((activations) => { this.engine.recycle(activations); });
    const { data } = outputs["logits"];
    capLogits(data, this.softcap);
    return data;
  }

  release(): Promise<void> {
    return this.graph.release();
  }
}

/** Adds logits to what is known of predictions, in the engine's threads beside the next products; few at a time, since each holds its logits. */
export class SliceSums {
  private readonly sums: Promise<void>[] = [];

  /** @param known replaced one by one by what is known then */
  constructor(private readonly engine: Engine, private readonly known: Predictions[]) {}

  /** Adds to the i-th; the slice's logits are moved. */
  async add(i: number, slice: LogitSlice): Promise<void> {
    const { engine, known, sums } = this;
    if (sums.length >= engine.parallelism) await sums.shift();
    const logits = [slice.model, ...(slice.reference ? [slice.reference] : [])];
    const sum = engine.call<Awaited<ReturnType<typeof addSlice>>["result"]>(PREDICTIONS, "addSlice", [known[i], slice], logits.map(({ buffer }) => buffer)).then((back) => {
      known[i] = back.predictions;
      for (const data of [back.slice.model, back.slice.reference]) {
        if (data !== undefined) engine.recycle({ batch: 1, tokens: data.length / slice.width, width: slice.width, data });
      }
    });
    // Awaited later; until then an error is not unheard.
    sum.catch(() => undefined);
    sums.push(sum);
  }

  async done(): Promise<void> {
    await Promise.all(this.sums);
  }
}

const PREDICTIONS = new URL("../evaluate/predictions.js", import.meta.url).href;
