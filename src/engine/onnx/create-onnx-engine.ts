import { availableParallelism } from "node:os";
import { checked, checkedPair } from "../checked.js";
import type { Activations, CrossHessianAccumulator, Engine, GatheredHessian, GraphOutcome, HessianAccumulator, PreparedGraph } from "../engine.js";
import type { Graph } from "../graph.js";
import { Buffers } from "./buffers.js";
import { Lanes } from "./lanes.js";
import type { GraphRun, NamedActivations } from "./graphs.js";
import { Pool } from "./pool.js";
import { Thread } from "../threads/thread.js";

/** What reports call the device. */
const CPU = "CPU";

export interface OnnxEngineOptions {
  /** Threads for graphs and Hessians; as many as there are cores unless said. */
  readonly threads?: number;
}

/**
 * An engine on ONNX Runtime's CPU kernels, in a worker thread, or several for graphs that run side by side; `call`s run in threads of their own, one core each.
 * @throws {InputError} when ONNX Runtime's native binding does not load here, with the way out
 */
export async function createOnnxEngine({ threads = availableParallelism() }: OnnxEngineOptions = {}): Promise<Engine> {
  const open = (): Thread => new Thread(new URL("./worker.js", import.meta.url), { threads });
  const worker = open();
  const lanes = new Lanes(worker, threads, open);
  const version = await worker.request<string>("version", []).catch(async (error: unknown) => {
    await worker.close();
    throw error;
  });
  const pool = new Pool(threads);
  const buffers = new Buffers();
  let nextId = 0;

  return {
    description: `ONNX Runtime ${version} on the CPU, ${threads} ${threads === 1 ? "thread" : "threads"}`,
    parallelism: pool.size,

    async prepare(graph, weights, beside = 1) {
      const id = nextId++;
      const lane = lanes.next(beside);
      await lane.worker.request("prepare", [id, graph, weights, lane.threads], [...weights.values()].map(({ buffer }) => buffer));
      return preparedGraph(lane.worker, buffers, graph, id);
    },

    async hessian(n) {
      const id = nextId++;
      await worker.request("hessian", [id, n, false]);
      return hessianAccumulator(worker, n, id);
    },

    async crossHessian(n) {
      const id = nextId++;
      await worker.request("hessian", [id, n, true]);
      return crossHessianAccumulator(worker, n, id);
    },

    call: (moduleUrl, exportName, args, transfer) => pool.call(moduleUrl, exportName, args, transfer),

    deviceMemory: () => Promise.resolve(0),

    recycle: ({ data }) => buffers.give(data.buffer),

    async close() {
      await Promise.all([lanes.close(), pool.close()]);
    },
  };
}

function preparedGraph(worker: Thread, buffers: Buffers, graph: Graph, id: number): PreparedGraph {
  return {
    async run(inputs) {
      const given = Object.fromEntries(graph.inputs.map(({ name, width }) => [name, checked(name, width, inputs[name])]));
      const { batch, tokens } = Object.values(given)[0];
      const outputs = Object.fromEntries(graph.outputs.map(({ name, width }) =>
        [name, { batch, tokens, width, data: new Float32Array(buffers.take(batch * tokens * width * 4)) }]));
      return { ...(await worker.request<Pick<GraphOutcome, "inputs" | "outputs">>("run", [id, { inputs: given, outputs } satisfies GraphRun], [...buffersOf(given), ...buffersOf(outputs)])), device: CPU };
    },
    release: () => worker.request("release", [id]),
  };
}

type Sums = Pick<GatheredHessian, "sum" | "rows">;
type CrossSums = Sums & { readonly cross: Float32Array<ArrayBuffer> };

function hessianAccumulator(worker: Thread, n: number, id: number): HessianAccumulator {
  return {
    async add(x) {
      const [back] = await worker.request<Activations[]>("add", [id, [checked("x", n, x)]], [x.data.buffer]);
      return back;
    },
    finish: async () => ({ ...(await worker.request<Sums>("finish", [id])), device: CPU }),
  };
}

function crossHessianAccumulator(worker: Thread, n: number, id: number): CrossHessianAccumulator {
  return {
    async add(x, original) {
      const given = checkedPair(n, x, original);
      return worker.request<[Activations, Activations]>("add", [id, given], given.map(({ data }) => data.buffer));
    },
    finish: async () => ({ ...(await worker.request<CrossSums>("finish", [id])), device: CPU }),
  };
}

const buffersOf = (named: NamedActivations): ArrayBuffer[] => Object.values(named).map(({ data }) => data.buffer);
