import type { Tensor } from "onnxruntime-node";
import type { Activations } from "../engine.js";
import { renamed, type Graph } from "../graph.js";
import { transferring, type Transferring } from "../transferring.js";
import { discard } from "./discard.js";
import { CUTS, cutsOf, piecesOf, POSITIONS, positionsOf } from "./attention.js";
import { attends, CPU_DIALECT, lower } from "./lower.js";
import { compile, loadRuntime, type Session, type Tensors } from "./runtime.js";

export type NamedActivations = Readonly<Record<string, Activations>>;

/** Inputs and outputs of a run. */
export interface GraphRun {
  readonly inputs: NamedActivations;
  readonly outputs: NamedActivations;
}

interface Prepared {
  /** The session for attention in so many pieces. */
  readonly session: (pieces: number) => Promise<Session>;
  /** Tokens see one another. */
  readonly attends: boolean;
  /** A name in the caller's graph → the session's. */
  readonly nameOf: ReadonlyMap<string, string>;
  readonly weights: Readonly<Record<string, Tensor>>;
}

/** The graphs of one worker, by the number under which they were prepared. Graphs that differ only in their names share a session. */
export class Graphs {
  readonly #sessions = new Map<string, Promise<Session>>();
  readonly #prepared = new Map<number, Prepared>();

  /** @param threads on which it is to run */
  async prepare(id: number, graph: Graph, weights: ReadonlyMap<string, Float32Array<ArrayBuffer>>, threads: number): Promise<void> {
    const { Tensor } = await loadRuntime();
    const { alike, nameOf } = canonical(graph);
    const session = this.#sessionsOf(alike, threads);
    // In how many pieces attention goes, is not known before the first run.
    if (!attends(alike)) await session(1);
    this.#prepared.set(id, {
      session, attends: attends(alike), nameOf,
      weights: Object.fromEntries(graph.weights.map(({ name, shape }) => {
        const data = weights.get(name);
        if (data === undefined) throw new Error(`The graph's weight ${name} is missing.`);
        return [nameOf.get(name)!, new Tensor("float32", data, shape)];
      })),
    });
  }

  /** Fills the outputs, and moves everything back. */
  async run(id: number, { inputs, outputs }: GraphRun): Promise<Transferring<GraphRun>> {
    const { Tensor } = await loadRuntime();
    const prepared = this.#prepared.get(id);
    if (prepared === undefined) throw new Error("The graph was released.");
    const { session, attends: inPieces, nameOf, weights } = prepared;
    const [{ tokens }] = Object.values(inputs);
    const tensors = (named: NamedActivations) => Object.fromEntries(Object.entries(named).map(([name, a]) =>
      [nameOf.get(name)!, new Tensor("float32", a.data, [a.batch, a.tokens, a.width])]));
    const pieces = inPieces ? piecesOf(tokens) : 1;
    const fed: Tensors = inPieces ? { [POSITIONS]: new Tensor("float32", positionsOf(tokens), [tokens]), ...(pieces > 1 && { [CUTS]: new Tensor("int64", cutsOf(tokens, pieces), [pieces + 1]) }) } : {};
    await (await session(pieces)).run({ ...tensors(inputs), ...weights, ...fed }, tensors(outputs));
    return transferring({ inputs, outputs }, [inputs, outputs].flatMap((named) => Object.values(named).map(({ data }) => data.buffer)));
  }

  /** Sessions by the pieces in which attention goes: lengths at which these are as many share one. */
  #sessionsOf(alike: Graph, threads: number): Prepared["session"] {
    const kind = JSON.stringify([alike, threads]);
    return (pieces) => {
      const key = `${kind} ${String(pieces)}`;
      const session = this.#sessions.get(key) ?? compile(lower(alike, CPU_DIALECT, pieces), threads);
      this.#sessions.set(key, session);
      return session;
    };
  }

  release(id: number): void {
    const prepared = this.#prepared.get(id);
    this.#prepared.delete(id);
    if (prepared !== undefined) discard(Object.values(prepared.weights).map(({ data }) => (data as Float32Array<ArrayBuffer>).buffer));
  }
}

/** The graph with its names numbered in order of appearance, by which graphs that are alike are one. */
export function canonical(graph: Graph): { readonly alike: Graph; readonly nameOf: ReadonlyMap<string, string> } {
  const nameOf = new Map<string, string>();
  const rename = (name: string): string => {
    if (!nameOf.has(name)) nameOf.set(name, `v${nameOf.size}`);
    return nameOf.get(name)!;
  };
  const renamedValues = <V extends { readonly name: string }>(values: readonly V[]): V[] => values.map((value) => ({ ...value, name: rename(value.name) }));
  return {
    nameOf,
    alike: {
      inputs: renamedValues(graph.inputs),
      weights: renamedValues(graph.weights),
      nodes: graph.nodes.map((node) => renamed(node, rename)),
      outputs: renamedValues(graph.outputs),
    },
  };
}
