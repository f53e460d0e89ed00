import type { Tensor } from "onnxruntime-node";
import type { OnnxModel } from "../../onnx/model.js";
import type { Activations } from "../engine.js";
import type { Graph } from "../graph.js";
import { canonical, type GraphRun, type NamedActivations } from "./graphs.js";
import { POSITIONS, positionsOf } from "./attention.js";
import { attends, lower } from "./lower.js";
import { compileForWebGpu, compileToKeep, loadRuntime, type Session, type Tensors } from "./runtime.js";
import { LENGTH, WEBGPU_DIALECT } from "./webgpu-dialect.js";

interface Prepared {
  readonly session: Promise<Session>;
  readonly nameOf: ReadonlyMap<string, string>;
  /** On the GPU. */
  readonly weights: Tensors;
  /** Tokens see one another: sequences go through one by one. */
  readonly attends: boolean;
}

/** Graphs on ONNX Runtime's WebGPU provider, by the number under which they were prepared. Their weights cross to the GPU once, when they are prepared. */
export class WebGpuGraphs {
  readonly #sessions = new Map<string, Promise<Session>>();
  readonly #prepared = new Map<number, Prepared>();
  /** Bytes of weights that are there now, and of these with a run's inputs and outputs at the most; what ONNX Runtime needs between them is its own. */
  #held = 0;
  #peak = 0;
  /** By the rank of what they bring. */
  readonly #uploads = new Map<number, ReturnType<typeof compileToKeep>>();

  get peak(): number {
    return this.#peak;
  }

  /** Throws where ONNX Runtime has no WebGPU provider here, or that no GPU. */
  async open(): Promise<void> {
    await this.#uploadOf(1);
  }

  async prepare(id: number, graph: Graph, weights: ReadonlyMap<string, Float32Array<ArrayBuffer>>): Promise<void> {
    const { Tensor } = await loadRuntime();
    const { alike, nameOf } = canonical(graph);
    const key = JSON.stringify(alike);
    const session = this.#sessions.get(key) ?? compileForWebGpu(lower(alike, WEBGPU_DIALECT, 1));
    this.#sessions.set(key, session);
    await session;
    const onGpu: Record<string, Tensor> = {};
    try {
      for (const { name, shape } of graph.weights) {
        const upload = await this.#uploadOf(shape.length);
        onGpu[nameOf.get(name)!] = await upload({ x: new Tensor("float32", weights.get(name)!, shape) });
      }
    } catch (error) {
      for (const tensor of Object.values(onGpu)) tensor.dispose();
      throw error;
    }
    this.#held += bytesOf(onGpu);
    this.#prepared.set(id, { session, nameOf, weights: onGpu, attends: attends(graph) });
  }

  /** Fills the outputs. Throws where one of them is not finite. */
  async run(id: number, { inputs, outputs }: GraphRun): Promise<void> {
    const { Tensor } = await loadRuntime();
    const { session, nameOf, weights, attends: oneByOne } = this.#prepared.get(id)!;
    const [{ batch, tokens: length }] = Object.values(inputs);
    const [passes, tokens] = oneByOne ? [batch, length] : [1, batch * length];
    const positions = new Tensor("float32", positionsOf(tokens), [tokens]);
    for (let pass = 0; pass < passes; pass++) {
      const tensors = (named: NamedActivations): Tensors => Object.fromEntries(Object.entries(named).map(([name, { data, width }]) =>
        [nameOf.get(name)!, new Tensor("float32", data.subarray(pass * tokens * width, (pass + 1) * tokens * width), [1, tokens, width])]));
      const fed: Tensors = oneByOne ? { [POSITIONS]: positions, [LENGTH]: new Tensor("int64", BigInt64Array.of(BigInt(tokens)), [1]) } : {};
      const [into, out] = [{ ...tensors(inputs), ...fed }, tensors(outputs)];
      this.#peak = Math.max(this.#peak, this.#held + bytesOf(into) + bytesOf(out));
      await (await session).run({ ...into, ...weights }, out);
    }
    for (const [name, output] of Object.entries(outputs)) if (!isFinite(output)) throw new Error(`it left NaN or infinity in ${name}`);
  }

  release(id: number): void {
    const weights = this.#prepared.get(id)?.weights ?? {};
    this.#prepared.delete(id);
    this.#held -= bytesOf(weights);
    for (const tensor of Object.values(weights)) tensor.dispose();
  }

  #uploadOf(rank: number): ReturnType<typeof compileToKeep> {
    const upload = this.#uploads.get(rank) ?? compileToKeep(copyModel(rank));
    this.#uploads.set(rank, upload);
    return upload;
  }
}

/** All of them have values of 4 bytes, but the one that holds a length. */
const bytesOf = (tensors: Tensors): number => Object.values(tensors).reduce((sum, { size }) => sum + 4 * size, 0);

function copyModel(rank: number): OnnxModel {
  const shape = Array.from({ length: rank }, (_, axis) => `d${axis}`);
  return { inputs: [{ name: "x", type: "float32", shape }], outputs: [{ name: "y", type: "float32", shape }], nodes: [{ op: "Identity", inputs: ["x"], outputs: ["y"] }] };
}

function isFinite({ data }: Activations): boolean {
  // Zero times what is finite is zero.
  let sum = 0;
  for (const value of data) sum += value * 0;
  return sum === 0;
}
