import type { Tensor } from "onnxruntime-node";
import type { OnnxModel } from "../../onnx/model.js";
import type { Activations } from "../engine.js";
import { transferring, type Transferring } from "../transferring.js";
import { compile, loadRuntime, type Session } from "./runtime.js";
import { spreadTiles, tilesOf, type Tile } from "./tiles.js";

interface Accumulator {
  readonly n: number;
  readonly session: Promise<Session>;
  readonly tiles: readonly Tile[];
  /** The full matrix's memory, of which the tiles take the second half until the end. */
  readonly sum: Float32Array<ArrayBuffer>;
  /** The tiles, and the bands of `cross`, as the session's inputs, and as its outputs: the same memory, so that it adds in place. */
  readonly before: Readonly<Record<string, Tensor>>;
  readonly after: Readonly<Record<string, Tensor>>;
  /** (X⁰ − X)ᵀX, if it is gathered too. */
  readonly cross: Float32Array<ArrayBuffer> | undefined;
  rows: number;
}

/** The Hessians of one worker, by the number under which they were made. */
export class Hessians {
  readonly #sessions = new Map<string, Promise<Session>>();
  readonly #accumulators = new Map<number, Accumulator>();

  constructor(private readonly threads: number) {}

  /** Makes a zero accumulator; `withCross`: of two inputs, X and X⁰. */
  async create(id: number, n: number, withCross: boolean): Promise<void> {
    const { Tensor } = await loadRuntime();
    const tiles = tilesOf(n, this.threads);
    const key = `${String(n)} ${String(withCross)}`;
    const session = this.#sessions.get(key) ?? compile(hessianModel(n, tiles, withCross), this.threads);
    this.#sessions.set(key, session);
    await session;
    const sum = new Float32Array(n * n);
    const cross = withCross ? new Float32Array(n * n) : undefined;
    const places = [
      ...tiles.map(({ rows, cols, offset }) => new Tensor("float32", sum.subarray(offset, offset + rows * cols), [rows, cols])),
      ...(cross ? bandsOf(tiles).map(({ row, rows }) => new Tensor("float32", cross.subarray(row * n, (row + rows) * n), [rows, n])) : []),
    ];
    const named = (prefix: string) => Object.fromEntries(places.map((tensor, i) => [`${prefix}${i}`, tensor]));
    this.#accumulators.set(id, { n, session, tiles, sum, cross, before: named("before"), after: named("after"), rows: 0 });
  }

  /** Adds X, or X and X⁰. */
  async add(id: number, given: readonly Activations[]): Promise<Transferring<readonly Activations[]>> {
    const { Tensor } = await loadRuntime();
    const accumulator = this.#get(id);
    const [first] = given;
    const rows = first.batch * first.tokens;
    const [x, original] = given.map(({ data, width }) => new Tensor("float32", data, [rows, width]));
    await (await accumulator.session).run({ x, ...(given.length > 1 && { original }), ...accumulator.before }, accumulator.after);
    accumulator.rows += rows;
    return transferring(given, given.map(({ data }) => data.buffer));
  }

  finish(id: number): Transferring<{ readonly sum: Float32Array<ArrayBuffer>; readonly cross?: Float32Array<ArrayBuffer>; readonly rows: number }> {
    const { n, tiles, sum, cross, rows } = this.#get(id);
    this.#accumulators.delete(id);
    spreadTiles(sum, n, tiles);
    return cross === undefined ? transferring({ sum, rows }, [sum.buffer]) : transferring({ sum, cross, rows }, [sum.buffer, cross.buffer]);
  }

  #get(id: number): Accumulator {
    const accumulator = this.#accumulators.get(id);
    if (accumulator === undefined) throw new Error("The Hessian was finished.");
    return accumulator;
  }
}

/** The tiles on the diagonal: each stands for a band of rows, and for one of columns. */
const bandsOf = (tiles: readonly Tile[]): readonly Tile[] => tiles.filter(({ row, col }) => row === col);

/**
 * after = before + XᵀX, tile by tile, on and above the diagonal only. Cutting X into columns first costs a copy, but nothing beside
 * transposing it; and square tiles lose less on the diagonal than long ones.
 * With X⁰, there follow the bands of (X⁰ − X)ᵀX: the difference first, since the products of the two are all but equal.
 */
function hessianModel(n: number, tiles: readonly Tile[], withCross: boolean): OnnxModel {
  const bands = bandsOf(tiles);
  const products = [
    ...tiles.map(({ row, col, rows, cols }) => ({ a: `x${row}`, b: `x${col}`, shape: [rows, cols] })),
    ...(withCross ? bands.map(({ row, rows }) => ({ a: `difference${row}`, b: "x", shape: [rows, n] })) : []),
  ];
  const values = (prefix: string) => products.map(({ shape }, i) => ({ name: `${prefix}${i}`, type: "float32" as const, shape }));
  const activations = (withCross ? ["x", "original"] : ["x"]).map((name) => ({ name, type: "float32" as const, shape: ["rows", n] }));
  const split = (name: string) => ({ op: "Split", inputs: [name, "widths"], outputs: bands.map(({ row }) => `${name}${row}`), ints: { axis: 1 } });
  return {
    inputs: [...activations, ...values("before")],
    outputs: values("after"),
    constants: new Map([["widths", bands.map(({ cols }) => cols)]]),
    nodes: [
      split("x"),
      ...(withCross ? [{ op: "Sub", inputs: ["original", "x"], outputs: ["difference"] }, split("difference")] : []),
      ...products.map(({ a, b }, i) => ({ op: "Gemm", inputs: [a, b, `before${i}`], outputs: [`after${i}`], ints: { transA: 1 }, floats: { beta: 1 } })),
    ],
  };
}
