import type { Graph } from "./graph.js";
import type { Coefficients, Resident } from "./resident.js";

/** Float32 activations [batch, tokens, width], row-major. The view spans its whole buffer, so that it can be transferred. */
export interface Activations {
  readonly batch: number;
  readonly tokens: number;
  readonly width: number;
  readonly data: Float32Array<ArrayBuffer>;
}

/**
 * Where the heavy arithmetic happens. Large arrays are *moved* into a call and come back from it: after `run(inputs)` the
 * caller's inputs are detached, and the returned ones hold the same memory.
 */
export interface Engine {
  /** What computes, for the report: name, version, threads. */
  readonly description: string;
  /**
   * Compiles a graph (once for all graphs alike) and binds its weights, which are moved to the engine.
   * @param beside how many graphs are to run at a time, this one included: each has its share of the engine. Default 1
   */
  prepare(graph: Graph, weights: ReadonlyMap<string, Float32Array<ArrayBuffer>>, beside?: number): Promise<PreparedGraph>;
  /**
   * A new, zero accumulator of XᵀX for X [.., n]. It, and its `finish`, throw `DeviceLost` where a device failed beside which the engine goes on: then
   * another is to be made, for all that was added to this one.
   */
  hessian(n: number): Promise<HessianAccumulator>;
  /** The same for the inputs that two models see, X and the original's X⁰ [.., n]: of XᵀX and of (X⁰ − X)ᵀX, made in one go. */
  crossHessian(n: number): Promise<CrossHessianAccumulator>;
  /**
   * Runs `exportName` of the module at `moduleUrl` in one of the engine's threads, as
   * `fn(linearAlgebra, ...args)`. Up to `parallelism` calls run side by side; the rest wait.
   * Arguments and results are structured-cloned, except the buffers in `transfer` and those that the function lists by
   * returning `transferring(result, buffers)`.
   * Throws `DeviceLost` where a device failed that the function asked for (`LinearAlgebra.resident`): called again, it runs without.
   */
  call<R>(moduleUrl: string, exportName: string, args: readonly unknown[], transfer?: readonly ArrayBuffer[]): Promise<R>;
  /** How many `call`s run side by side. */
  readonly parallelism: number;
  /** Gives back memory that the caller no longer needs, to hold later outputs. */
  recycle(activations: Activations): void;
  /** Bytes of a GPU's memory that it took at its peak: zero for an engine on the CPU. */
  deviceMemory(): Promise<number>;
  /** Stops the threads. Calls under way are rejected. */
  close(): Promise<void>;
}

export interface PreparedGraph {
  /** Moves the inputs in; gives them back beside the outputs. */
  run(inputs: Readonly<Record<string, Activations>>): Promise<GraphOutcome>;
  /** Frees the weights. */
  release(): Promise<void>;
}

export interface GraphOutcome {
  readonly inputs: Record<string, Activations>;
  readonly outputs: Record<string, Activations>;
  /** What computed them: "CPU", or a GPU's name. */
  readonly device: string;
  /** Why a device beside the engine did not, where it should have; told once. */
  readonly trouble?: string;
}

export interface HessianAccumulator {
  /** H += XᵀX over all rows of x [batch·tokens, n]; x comes back. */
  add(x: Activations): Promise<Activations>;
  /** Frees the accumulator. */
  finish(): Promise<GatheredHessian>;
}

export interface GatheredHessian {
  /** The whole symmetric sum, [n, n] float32. */
  readonly sum: Float32Array<ArrayBuffer>;
  /** Rows that went into it. */
  readonly rows: number;
  /** What made it: "CPU", or a GPU's name. */
  readonly device: string;
}

export interface CrossHessianAccumulator {
  /** H += XᵀX and C += (X⁰ − X)ᵀX over all rows of x and original [batch·tokens, n], which belong to the same tokens; both come back. */
  add(x: Activations, original: Activations): Promise<readonly [x: Activations, original: Activations]>;
  /** H as `sum` and C, which is not symmetric, as `cross` [n, n] float32. Frees the accumulator. */
  finish(): Promise<GatheredHessian & { readonly cross: Float32Array<ArrayBuffer> }>;
}

/**
 * Matrix products for code that runs where the engine lives (see `Engine.call`), and in tests on plain loops. All operands are
 * contiguous, row-major and of one type; views into larger buffers are fine.
 */
export interface LinearAlgebra {
  /** c [m,n] = alpha · op(a) · op(b) + beta · c, in place; op transposes where asked: a is [k,m] with transA, b is [n,k] with transB. */
  gemm<A extends Float32Array | Float64Array>(g: {
    readonly m: number; readonly n: number; readonly k: number;
    readonly a: A; readonly b: A; readonly c: A;
    readonly transA?: boolean; readonly transB?: boolean;
    readonly alpha?: number; readonly beta?: number;
  }): Promise<void>;
  /** Brings c [r.n, columns] to a device, where there is one: see `residentOf`. Its methods throw `DeviceLost`. */
  readonly resident?: (c: Float32Array, r: Coefficients) => Resident;
}
