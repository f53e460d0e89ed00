import type { Activations } from "../engine/engine.js";
import type { ScratchFile } from "./sink.js";

/** The named activations of one batch, as they go from stage to stage. */
export type BatchState = Record<string, Activations>;

/** Bytes of memory that several spools share. */
export class MemoryBudget {
  private used = 0;
  /** The most that was in use at once. */
  peak = 0;

  constructor(readonly limit: number) {}

  reserve(bytes: number): boolean {
    if (this.used + bytes > this.limit) return false;
    this.used += bytes;
    this.peak = Math.max(this.peak, this.used);
    return true;
  }

  free(bytes: number): void {
    this.used -= bytes;
  }
}

/**
 * Holds what a stage leaves for the next one, batch by batch: in memory while the budget lasts, the rest in a file. Batches come
 * and go in order, so what does not fit at first would not be worth swapping in later.
 */
export class Spool {
  private readonly inMemory = new Map<number, BatchState>();
  private opened: Promise<ScratchFile> | undefined;
  private readonly shapes = new Map<number, ReadonlyMap<string, Omit<Activations, "data">>>();

  /**
   * @param stride bytes of the largest batch's state: where batch i begins in the file is i · stride
   * @param openFile where batches go that memory cannot hold, opened when it is first needed
   * @param durable write every batch to the file, in memory or not: the state from which a run is taken up again
   */
  constructor(
    private readonly budget: MemoryBudget,
    private readonly stride: number,
    private readonly openFile: () => Promise<ScratchFile>,
    private readonly durable = false,
  ) {}

  /** No batch can be taken afterwards; what a durable spool wrote stays. */
  async close(): Promise<void> {
    for (const state of this.inMemory.values()) this.budget.free(bytesOf(state));
    this.inMemory.clear();
    await (await this.opened)?.close();
  }

  private file(): Promise<ScratchFile> {
    return (this.opened ??= this.openFile());
  }

  /** Keeps a batch. Returns what can be recycled: the state itself, once it is only in the file. */
  async put(batch: number, state: BatchState): Promise<readonly Activations[]> {
    this.shapes.set(batch, new Map(Object.entries(state).map(([name, { batch: b, tokens, width }]) => [name, { batch: b, tokens, width }])));
    const bytes = bytesOf(state);
    const fits = this.budget.reserve(bytes);
    if (fits) this.inMemory.set(batch, state);
    if (fits && !this.durable) return [];
    const file = await this.file();
    let offset = batch * this.stride;
    for (const { data } of Object.values(state)) {
      await file.write(offset, bytesView(data));
      offset += data.byteLength;
    }
    return fits ? [] : Object.values(state);
  }

  /** Says what shape a batch in the file has, when another process wrote it. */
  adopt(batch: number, shapes: ReadonlyMap<string, Omit<Activations, "data">>): void {
    this.shapes.set(batch, shapes);
  }

  /** Hands a batch over. */
  async take(batch: number): Promise<BatchState> {
    const held = this.inMemory.get(batch);
    if (held !== undefined) {
      this.inMemory.delete(batch);
      this.budget.free(bytesOf(held));
      return held;
    }
    const shapes = this.shapes.get(batch);
    if (shapes === undefined) throw new Error(`batch ${String(batch)} was never put`);
    const file = await this.file();
    const state: BatchState = {};
    let offset = batch * this.stride;
    for (const [name, shape] of shapes) {
      const data = new Float32Array(shape.batch * shape.tokens * shape.width);
      await file.read(offset, bytesView(data));
      offset += data.byteLength;
      state[name] = { ...shape, data };
    }
    return state;
  }

  /** Takes back a batch that was only looked at. Returns what can be recycled: the state, if it is in the file anyhow. */
  restore(batch: number, state: BatchState, wasInMemory: boolean): readonly Activations[] {
    if (!wasInMemory) return Object.values(state);
    // Its room was freed by `take` a moment ago, and nothing else was put in between.
    this.budget.reserve(bytesOf(state));
    this.inMemory.set(batch, state);
    return [];
  }

  isInMemory(batch: number): boolean {
    return this.inMemory.has(batch);
  }
}

function bytesOf(state: BatchState): number {
  return Object.values(state).reduce((sum, { data }) => sum + data.byteLength, 0);
}

function bytesView(data: Float32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
