import type { Activations, Engine } from "../engine/engine.js";
import { sliceOf } from "../engine/graph.js";
import { DeviceLost } from "../engine/device-lost.js";
import type { Stage } from "../model/decoder.js";
import { weightsOf, type ReadTensor } from "../model/weights.js";
import type { BatchState } from "./spool.js";

/** Something that gathers, of one or several streams' activations. */
export interface Gatherer {
  add(xs: readonly Activations[]): Promise<readonly Activations[]>;
}

/** What a stage left of a batch, stream by stream, borrowed while `use` works on it and changed in place. */
export type Leftovers = (batch: number, use: (states: readonly BatchState[]) => Promise<void>) => Promise<void>;

/** Adds the inputs of a stage's linears once more, from what it left behind: they are among that, or a norm away from it. */
export async function gatherAgain(engine: Engine, stage: Stage, readTensor: ReadTensor, batches: number, leftovers: Leftovers, gatherer: Gatherer): Promise<void> {
  const x = stage.x!;
  const graph = sliceOf(stage.graph, stage.carry, x);
  const carried = graph.nodes.length === 0;
  const prepared = carried ? undefined : await engine.prepare(graph, await weightsOf({ ...stage, graph }, readTensor));
  const inputOf = async (state: BatchState): Promise<Activations> => {
    if (prepared === undefined) return state[x];
    const { inputs, outputs } = await prepared.run(Object.fromEntries(graph.inputs.map(({ name }) => [name, state[name]])));
    Object.assign(state, inputs);
    return outputs[x];
  };
  for (let batch = 0; batch < batches; batch += 1) {
    await leftovers(batch, async (states) => {
      const xs: Activations[] = [];
      for (const state of states) xs.push(await inputOf(state));
      const back = await gatherer.add(xs);
      back.forEach((given, i) => {
        if (carried) states[i][x] = given;
        else engine.recycle(given);
      });
    });
  }
  await prepared?.release();
}

/** Tries what needs a device beside the engine; where that fails, tells of it and does what is to be done without it. */
export async function orWithoutDevice<R>(attempt: () => Promise<R>, without: () => Promise<R>, tell: (lost: DeviceLost) => void): Promise<R> {
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof DeviceLost)) throw error;
    tell(error);
    return without();
  }
}
