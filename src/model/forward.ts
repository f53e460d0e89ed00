import type { Activations, Engine, PreparedGraph } from "../engine/engine.js";
import type { Stage } from "./decoder.js";
import { weightsOf, type ReadTensor } from "./weights.js";

/**
 * Runs a chain of stages, of one layer or of the head, over hidden states: each goes in as the first stage's only input, and the
 * last stage's only output comes out in its place. Hidden states that went in are moved: their arrays are gone.
 */
export async function* runStages(
  engine: Engine,
  stages: readonly Stage[],
  readTensor: ReadTensor,
  hiddenStates: Iterable<Activations> | AsyncIterable<Activations>,
): AsyncGenerator<Activations, void, undefined> {
  const prepared: PreparedGraph[] = [];
  try {
    for (const stage of stages) prepared.push(await engine.prepare(stage.graph, await weightsOf(stage, readTensor)));
    for await (const h of hiddenStates) {
      let values: Record<string, Activations> = { [stages[0].graph.inputs[0].name]: h };
      for (const [i, stage] of stages.entries()) values = carryOn(engine, stage, await prepared[i].run(values));
      yield values[stages.at(-1)!.carry[0]];
    }
  } finally {
    for (const graph of prepared) await graph.release();
  }
}

/** What lives on after a stage, by name; the memory of the rest goes back to the engine. */
export function carryOn(
  engine: Engine,
  stage: Stage,
  ran: { readonly inputs: Readonly<Record<string, Activations>>; readonly outputs: Readonly<Record<string, Activations>> },
): Record<string, Activations> {
  const kept: Record<string, Activations> = {};
  for (const [name, value] of [...Object.entries(ran.inputs), ...Object.entries(ran.outputs)]) {
    if (stage.carry.includes(name)) {
      kept[name] = value;
    } else {
      engine.recycle(value);
    }
  }
  return kept;
}

/**
 * The hidden state that the first layer takes: each token's row of the embedding, times `scale`.
 *
 * @param sequences tokens; all of one length
 * @param copyRow writes a token's row, float32, into an array of `width`
 */
export function embed(
  sequences: readonly ArrayLike<number>[],
  width: number,
  scale: number,
  copyRow: (token: number, into: Float32Array) => void,
): Activations {
  const tokens = sequences[0]?.length ?? 0;
  const data = new Float32Array(sequences.length * tokens * width);
  let at = 0;
  for (const sequence of sequences) {
    if (sequence.length !== tokens) throw new RangeError(`sequences of ${tokens} and of ${sequence.length} tokens in one batch`);
    for (let i = 0; i < tokens; i++, at += width) copyRow(sequence[i], data.subarray(at, at + width));
  }
  if (scale !== 1) for (let i = 0; i < data.length; i++) data[i] *= scale;
  return { batch: sequences.length, tokens, width, data };
}
