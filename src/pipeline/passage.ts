import type { Activations, PreparedGraph } from "../engine/engine.js";
import type { LinearPlan } from "../formats/format.js";
import type { Stage } from "../model/decoder.js";
import type { Gathering } from "./folding.js";
import type { BatchState, Spool } from "./spool.js";
import type { LinearRun } from "./write-linear.js";

/** What the layers of a calibrated run have in common. */
export interface LayerRun extends LinearRun {
  /** By module name. */
  readonly plans: ReadonlyMap<string, LinearPlan>;
  readonly batches: number;
  /** A spool for what a stage leaves in a stream, in which a batch takes `width` values a token. */
  spool(stage: string, stream: number, width: number): Spool;
  /** Called after each batch of a stage. */
  onBatch(stage: Stage, batch: number): void;
}

/** Values a token that a stage leaves behind. */
export function stateWidth(stage: Stage): number {
  const widths = new Map([...stage.graph.inputs, ...stage.graph.outputs].map(({ name, width }) => [name, width]));
  return stage.carry.reduce((sum, name) => sum + widths.get(name)!, 0);
}

/** Whether a stage (a norm) leaves its inputs where they lie, and no more. */
export function onlyLooks(stage: Stage): boolean {
  return stage.carry.every((name) => stage.graph.inputs.some((input) => input.name === name)) && stage.carry.length === stage.graph.inputs.length;
}

/** Runs all batches through a stage, the streams side by side. */
export async function runStage(run: LayerRun, stage: Stage, passages: readonly Passage[], gathering: Gathering | undefined): Promise<void> {
  for (let batch = 0; batch < run.batches; batch += 1) {
    run.signal?.throwIfAborted();
    const states = await run.watch.time("read", () => Promise.all(passages.map((passage) => passage.next(batch))));
    const all = await run.watch.time("forward", () => Promise.all(passages.map((passage, i) => passage.run(states[i]))));
    if (gathering !== undefined) {
      const xs = await run.watch.time("hessian", () => gathering.add(all.slice(0, gathering.streams).map((values) => values[stage.x!])));
      xs.forEach((x, i) => (all[i][stage.x!] = x));
    }
    for (const [i, passage] of passages.entries()) await passage.leave(batch, all[i]);
    run.onBatch(stage, batch);
  }
  for (const passage of passages) await passage.written();
}

/** The way of one stream through a stage: each batch is taken from a spool, run, and put into another. */
export class Passage {
  private putting = Promise.resolve();
  private coming: { readonly held: boolean; readonly state: Promise<BatchState> };
  private held = false;
  /** What computed the last batch: "CPU", or a GPU's name. */
  device = "CPU";

  /** @param into where what lives on is put: `from` itself, if the stage only looks at it */
  constructor(
    private readonly layer: LayerRun,
    private readonly stage: Stage,
    private readonly graph: PreparedGraph,
    private readonly from: Spool,
    readonly into: Spool,
  ) {
    this.coming = this.take(0);
  }

  /** What goes into the stage. The batch after it is read ahead, while the engine computes. */
  async next(batch: number): Promise<BatchState> {
    const state = await this.coming.state;
    this.held = this.coming.held;
    if (batch + 1 < this.layer.batches) this.coming = this.take(batch + 1);
    return state;
  }

  /** Everything that goes into the stage and comes out of it, by name. */
  async run(state: BatchState): Promise<BatchState> {
    const { inputs, outputs, device, trouble } = await this.graph.run(state);
    this.device = device;
    if (trouble !== undefined) this.layer.onWarning(`${this.stage.name}: ${trouble}`);
    return { ...inputs, ...outputs };
  }

  /** Keeps what lives on, and gives back the rest. */
  async leave(batch: number, all: Readonly<BatchState>): Promise<void> {
    const { engine, watch } = this.layer;
    const recycle = (given: readonly Activations[]): void => given.forEach((activations) => engine.recycle(activations));
    const { carry } = this.stage;
    const kept = Object.fromEntries(carry.map((name) => [name, all[name]]));
    recycle(Object.keys(all).filter((name) => !carry.includes(name)).map((name) => all[name]));
    if (this.into === this.from) {
      recycle(this.from.restore(batch, kept, this.held));
    } else {
      await watch.time("write", () => this.putting);
      // Written behind, while the engine computes the next batch.
      this.putting = this.into.put(batch, kept).then(recycle);
      this.putting.catch(() => undefined);
    }
  }

  /** Returns when all that was put is where it belongs. */
  written(): Promise<void> {
    return this.layer.watch.time("write", () => this.putting);
  }

  release(): Promise<void> {
    return this.graph.release();
  }

  private take(batch: number) {
    const held = this.from.isInMemory(batch);
    const state = this.from.take(batch);
    // An error is thrown by whoever awaits it.
    state.catch(() => undefined);
    return { held, state };
  }
}
