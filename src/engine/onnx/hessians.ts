import type { Tensor } from "onnxruntime-node";
import type { Activations } from "../engine.js";
import { transferring, type Transferring } from "../transferring.js";
import type { OnnxModel } from "./model.js";
import { compile, loadRuntime, type Session } from "./runtime.js";
import { spreadTiles, tilesOf, type Tile } from "./tiles.js";

interface Accumulator {
  readonly n: number;
  readonly session: Promise<Session>;
  readonly tiles: readonly Tile[];
  /** The full matrix's memory, of which the tiles take the second half until the end. */
  readonly sum: Float32Array<ArrayBuffer>;
  /** The tiles as the session's inputs, and as its outputs: the same memory, so that it adds in place. */
  readonly before: Readonly<Record<string, Tensor>>;
  readonly after: Readonly<Record<string, Tensor>>;
  rows: number;
}

/** The Hessians of one worker, by the number under which they were made. */
export class Hessians {
  readonly #sessions = new Map<number, Promise<Session>>();
  readonly #accumulators = new Map<number, Accumulator>();

  constructor(private readonly threads: number) {}

  async create(id: number, n: number): Promise<void> {
    const { Tensor } = await loadRuntime();
    const tiles = tilesOf(n, this.threads);
    const session = this.#sessions.get(n) ?? compile(hessianModel(n, tiles), this.threads);
    this.#sessions.set(n, session);
    await session;
    const sum = new Float32Array(n * n);
    const tensors = tiles.map(({ rows, cols, offset }) => new Tensor("float32", sum.subarray(offset, offset + rows * cols), [rows, cols]));
    const named = (prefix: string) => Object.fromEntries(tensors.map((tensor, i) => [`${prefix}${i}`, tensor]));
    this.#accumulators.set(id, { n, session, tiles, sum, before: named("before"), after: named("after"), rows: 0 });
  }

  async add(id: number, x: Activations): Promise<Transferring<Activations>> {
    const { Tensor } = await loadRuntime();
    const accumulator = this.#get(id);
    const rows = x.batch * x.tokens;
    await (await accumulator.session).run({ x: new Tensor("float32", x.data, [rows, x.width]), ...accumulator.before }, accumulator.after);
    accumulator.rows += rows;
    return transferring(x, [x.data.buffer]);
  }

  finish(id: number): Transferring<{ readonly sum: Float32Array<ArrayBuffer>; readonly rows: number }> {
    const { n, tiles, sum, rows } = this.#get(id);
    this.#accumulators.delete(id);
    spreadTiles(sum, n, tiles);
    return transferring({ sum, rows }, [sum.buffer]);
  }

  #get(id: number): Accumulator {
    const accumulator = this.#accumulators.get(id);
    if (accumulator === undefined) throw new Error("The Hessian was finished.");
    return accumulator;
  }
}

/**
 * after = before + XᵀX, tile by tile, on and above the diagonal only. Cutting X into columns first costs a copy, but nothing beside
 * transposing it; and square tiles lose less on the diagonal than long ones.
 */
function hessianModel(n: number, tiles: readonly Tile[]): OnnxModel {
  const type = "float32";
  const diagonal = tiles.filter(({ row, col }) => row === col);
  const column = (start: number) => `x${start}`;
  return {
    inputs: [{ name: "x", type, shape: ["rows", n] }, ...tiles.map(({ rows, cols }, i) => ({ name: `before${i}`, type, shape: [rows, cols] } as const))],
    outputs: tiles.map(({ rows, cols }, i) => ({ name: `after${i}`, type, shape: [rows, cols] })),
    constants: new Map([["widths", diagonal.map(({ cols }) => cols)]]),
    nodes: [
      { op: "Split", inputs: ["x", "widths"], outputs: diagonal.map(({ col }) => column(col)), ints: { axis: 1 } },
      ...tiles.map(({ row, col }, i) => ({
        op: "Gemm", inputs: [column(row), column(col), `before${i}`], outputs: [`after${i}`], ints: { transA: 1 }, floats: { beta: 1 },
      })),
    ],
  };
}
