import { InputError } from "../../errors.js";
import { checked } from "../checked.js";
import { DeviceLost } from "../device-lost.js";
import type { Engine, GraphOutcome, PreparedGraph } from "../engine.js";
import { Thread } from "../threads/thread.js";
import { Buffers } from "./buffers.js";
import { canonical, type NamedActivations } from "./graphs.js";
import type { Ran } from "./webgpu-worker.js";

/** How descriptions of these engines go on behind that of the engine beneath. */
const FORWARD_BY = "; forward pass by ONNX Runtime's WebGPU provider";

/** How far values may be from the CPU's, in shares of the largest: float32 differs by 1e-6, an operator that is wrong by much more than this. */
const TOLERANCE = 1e-4;

export interface ForwardOptions {
  /** The GPU's name. */
  readonly gpu: string;
  /** Throw `InputError` where the GPU fails or is wrong, rather than let the engine do its work. */
  readonly strict?: boolean;
}

/**
 * An engine whose graphs run on a GPU, by ONNX Runtime's WebGPU provider. Whether that computes them right is not taken on trust: of all graphs that
 * are alike the first batch, and each with longer sequences than any before, is computed by the engine beneath too. Where they differ by more than 1e-4 of
 * the largest value, such graphs are the engine's from then on; where the GPU fails, or leaves NaN, all of them are. The batch is then done again there, and
 * its outcome says why.
 * @throws {Error} where ONNX Runtime has no WebGPU provider here, or that finds no GPU; `engine` is left open
 */
export async function forwardOnWebGpu(engine: Engine, { gpu, strict = false }: ForwardOptions): Promise<Engine> {
  const thread = new Thread(new URL("./webgpu-worker.js", import.meta.url));
  await thread.request("open", []).catch(async (error: unknown) => {
    await thread.close();
    throw error;
  });
  const buffers = new Buffers();
  /** Of graphs that are alike, the longest sequence on which the two agreed. */
  const agreed = new Map<string, number>();
  const wrong = new Set<string>();
  let failed = false;
  let nextId = 0;

  const lost = (why: string): string => {
    const { message } = new DeviceLost(gpu, why);
    if (strict) throw new InputError(`${message}. Without --no-fallback the CPU would go on in its place`);
    return `${message}; the forward pass goes on without it`;
  };
  const fails = (why: string): string => {
    failed = true;
    return lost(why);
  };

  return {
    ...engine,
    description: `${engine.description}${FORWARD_BY}`,
    async prepare(graph, weights, beside): Promise<PreparedGraph> {
      const kind = JSON.stringify(canonical(graph).alike);
      if (failed || wrong.has(kind)) return engine.prepare(graph, weights, beside);
      const copies = new Map([...weights].map(([name, values]) => [name, values.slice()]));
      // It takes memory, but no time.
      const own = await engine.prepare(graph, weights, beside);
      const id = nextId++;
      let trouble = await thread.request("prepare", [id, graph, copies], [...copies.values()].map(({ buffer }) => buffer)).then(
        () => undefined,
        (error: unknown) => {
          if (!thread.alive) throw error;
          return fails(error instanceof Error ? error.message : String(error));
        },
      );
      return {
        async run(inputs): Promise<GraphOutcome> {
          if (failed || wrong.has(kind)) {
            const outcome = { ...(await own.run(inputs)), ...(trouble !== undefined && { trouble }) };
            trouble = undefined;
            return outcome;
          }
          const given = Object.fromEntries(graph.inputs.map(({ name, width }) => [name, checked(name, width, inputs[name])]));
          const { batch, tokens } = Object.values(given)[0];
          const outputs = Object.fromEntries(graph.outputs.map(({ name, width }) =>
            [name, { batch, tokens, width, data: new Float32Array(buffers.take(batch * tokens * width * 4)) }]));
          const ran = await thread.request<Ran>("run", [id, { inputs: given, outputs }], [given, outputs].flatMap((named) => Object.values(named).map(({ data }) => data.buffer)));
          if (ran.trouble !== undefined) return { ...(await own.run(ran.inputs)), trouble: fails(ran.trouble) };
          if (tokens <= (agreed.get(kind) ?? 0)) return { inputs: ran.inputs, outputs: ran.outputs, device: gpu };
          const expected = await own.run(ran.inputs);
          const off = difference(ran.outputs, expected.outputs);
          if (!(off <= TOLERANCE)) {
            wrong.add(kind);
            return { ...expected, trouble: lost(`its values are off by ${off.toExponential(1)} of the largest`) };
          }
          agreed.set(kind, tokens);
          for (const output of Object.values(expected.outputs)) engine.recycle(output);
          return { inputs: expected.inputs, outputs: ran.outputs, device: gpu };
        },
        async release() {
          await Promise.all([own.release(), thread.request("release", [id])]);
        },
      };
    },
    recycle(activations) {
      if (failed) engine.recycle(activations);
      else buffers.give(activations.data.buffer);
    },
    deviceMemory: async () => (await engine.deviceMemory()) + (await thread.request<number>("peak", [])),
    async close() {
      await Promise.all([engine.close(), thread.close()]);
    },
  };
}

/** The largest difference of two sets of values, in shares of the largest value of its set. */
function difference(got: NamedActivations, expected: NamedActivations): number {
  return Math.max(...Object.entries(expected).map(([name, { data }]) => {
    const other = got[name].data;
    let off = 0;
    let largest = Number.MIN_VALUE;
    for (let i = 0; i < data.length; i++) {
      off = Math.max(off, Math.abs(data[i] - other[i]));
      largest = Math.max(largest, Math.abs(data[i]));
    }
    return off / largest;
  }));
}
