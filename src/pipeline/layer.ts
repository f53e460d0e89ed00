import type { DeviceLost } from "../engine/device-lost.js";
import type { Stage } from "../model/decoder.js";
import { weightsOf } from "../model/weights.js";
import type { Checkpoint } from "../source/checkpoint.js";
import { dividedBy, gatheringOf, prepare, type Gathered, type Gathering } from "./folding.js";
import { gatherAgain, orWithoutDevice, type Leftovers } from "./gather-again.js";
import { onlyLooks, Passage, runStage, stateWidth, type LayerRun } from "./passage.js";
import type { Spool } from "./spool.js";
import { quantizeOne, write, type Quantized } from "./write-linear.js";

/**
 * Quantizes one decoder layer: each stage is run on what the quantized stages before it leave, its linears are quantized against the
 * Hessian of their input, packed and written, and the next stage runs on them. With a second stream, the same tokens go through the
 * original weights beside it, and the linears are aimed at what they give there.
 * @param hidden the hidden states that come in, a spool a stream: the quantized model's, then the original's if there is retargeting; empty afterwards
 * @param into where the hidden states go that come out; absent after the last layer, where nobody needs them
 * @param alike both streams are still the same, before the first layer
 * @returns norms into which scales were folded: what is to be written in their place, by tensor
 */
export async function quantizeLayer(
  run: LayerRun, stages: readonly Stage[], hidden: readonly Spool[], into: readonly Spool[] | undefined, alike: boolean,
): Promise<ReadonlyMap<string, Float32Array<ArrayBuffer>>> {
  let states = hidden;
  /** For each stream the tensors that its next stages need and that are at hand. */
  const seen = hidden.map(() => new Map<string, Float32Array<ArrayBuffer>>());
  let same = alike;
  const norms = new Map<string, Float32Array<ArrayBuffer>>();
  /** Linears of the stage before: the next may still divide their outputs. */
  let done: Quantized[] = [];
  for (const stage of stages) {
    const last = stage.x === undefined;
    if (last && into === undefined) break;
    // Linears of one stage have one input and one scheme: readers fuse them.
    const quantizing = stage.linears.map(({ name }) => run.plans.get(name)!).find(({ scheme }) => scheme !== undefined);
    const makeGathering = (): Promise<Gathering> => gatheringOf(run.engine, quantizing!.inFeatures, hidden.length > 1 && !same);
    const tell = (lost: DeviceLost): void => run.onWarning(`${stage.linears.map(({ name }) => name).join(", ")}: ${lost.message}; the Hessian is gathered without it`);
    const gathering = quantizing && (await orWithoutDevice(makeGathering, makeGathering, tell));
    const looks = onlyLooks(stage);
    const passages: Passage[] = [];
    let gathered: Gathered | undefined;
    try {
      // A stage that leaves nothing, and at whose input nobody looks, need not be run.
      const ran = looks ? states.slice(0, gathering?.streams ?? 0) : states;
      for (const [i, from] of ran.entries()) {
        const weights = await run.watch.time("read", () => weightsOf(stage, readerOf(run.checkpoint, seen, i)));
        const next = looks ? from : last ? into![i] : run.spool(stage.name, i, stateWidth(stage));
        passages.push(new Passage(run, stage, await run.engine.prepare(stage.graph, weights, ran.length), from, next));
      }
      await runStage(run, stage, passages, gathering);
      const finish = (whole: Gathering): Promise<Gathered> => run.watch.time("hessian", () => whole.finish());
      gathered = gathering && (await orWithoutDevice(() => finish(gathering), async () => {
        const another = await makeGathering();
        await gatherAgain(run.engine, stage, (name) => run.checkpoint.readFloat32(name), run.batches, leftBy(passages.slice(0, another.streams)), another);
        return finish(another);
      }, tell));
    } finally {
      for (const passage of passages) await passage.release();
    }
    if (!looks) {
      if (states !== hidden) for (const state of states) await state.close();
      states = passages.map(({ into: left }) => left);
    }
    const weights = quantizing === undefined ? new Map<string, Float32Array<ArrayBuffer>>() : await weightsOfLinears(run, stage, stage !== stages.at(-1));
    const { device, prepared, retarget, fold } = gathered === undefined ? {} : await prepare(run, stage, gathered, quantizing!.scheme!, [...weights.values()], done);
    if (fold?.norm !== undefined) norms.set(...fold.norm);
    for (const quantized of done) await write(run, fold?.divided === quantized ? { ...quantized, ...dividedBy(quantized, fold.rows) } : quantized);
    done = [];
    for (const { name } of stage.linears) {
      run.signal?.throwIfAborted();
      const weight = weights.get(name);
      const quantized = await quantizeOne(run, run.plans.get(name)!, { ...(weight && { weight }), ...(prepared && { prepared, device, forward: passages[0].device }), ...(retarget && { retarget }), ...(fold && { inputScales: fold.scales }) });
      if (quantized === undefined) continue;
      same = false;
      done.push(quantized);
      [quantized.dequantized, weight].forEach((values, i) => values && seen[i]?.set(`${name}.weight`, values));
    }
  }
  for (const quantized of done) await write(run, quantized);
  return norms;
}

/** What the stage left in the spools of these streams. */
function leftBy(passages: readonly Passage[]): Leftovers {
  return async (batch, use) => {
    const spools = passages.map(({ into }) => into);
    const held = spools.map((spool) => spool.isInMemory(batch));
    const states = await Promise.all(spools.map((spool) => spool.take(batch)));
    await use(states);
    spools.forEach((spool, i) => spool.restore(batch, states[i], held[i]));
  };
}

/** The weights of a stage's linears, where a later stage needs them; otherwise memory never holds all of them. */
async function weightsOfLinears(run: LayerRun, stage: Stage, needed: boolean): Promise<Map<string, Float32Array<ArrayBuffer>>> {
  const weights = new Map<string, Float32Array<ArrayBuffer>>();
  if (!needed) return weights;
  for (const { name } of stage.linears) weights.set(name, await run.watch.time("read", () => run.checkpoint.readFloat32(`${name}.weight`)));
  return weights;
}

/** Reads the tensors of one stream: what a linear before it has left, or else what the checkpoint says. */
function readerOf(checkpoint: Checkpoint, seen: readonly Map<string, Float32Array<ArrayBuffer>>[], stream: number) {
  return async (tensor: string): Promise<Float32Array<ArrayBuffer>> => {
    const ready = seen[stream].get(tensor);
    // The graph takes the memory over; no later stage needs it.
    seen[stream].delete(tensor);
    if (ready !== undefined) return ready;
    const values = await checkpoint.readFloat32(tensor);
    // What is not quantized is the same in every stream, and read once.
    for (const other of seen.slice(stream + 1)) if (!other.has(tensor)) other.set(tensor, values.slice());
    return values;
  };
}
