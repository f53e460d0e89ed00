import type { InferenceSession, Tensor } from "onnxruntime-node";
import { InputError } from "../../errors.js";
import { encodeModel, type OnnxModel } from "../../onnx/model.js";
import { discard } from "./discard.js";
import { native } from "../threads/native-guard.js";

type Runtime = typeof import("onnxruntime-node");

// The package carries these in its tarball.
const PLATFORMS = ["darwin-arm64", "linux-arm64", "linux-x64", "win32-arm64", "win32-x64"];

let loaded: Promise<Runtime> | undefined;

/**
 * ONNX Runtime's module, loaded when it is first needed.
 * @throws {InputError} when it is not there or its native part does not load: what to do about it
 */
export const loadRuntime = (): Promise<Runtime> => (loaded ??= import("onnxruntime-node").catch((cause: unknown) => {
  throw new InputError(bindingHelp(`${process.platform}-${process.arch}`, cause instanceof Error ? cause.message : String(cause)));
}));

/** What to say when ONNX Runtime does not load on `platform` because of `cause`. */
export function bindingHelp(platform: string, cause: string): string {
  const problem = `ONNX Runtime's native binding for ${platform} does not load: ${cause.split("\n")[0]}`;
  if (!PLATFORMS.includes(platform)) return `${problem}\nonnxruntime-node has bindings for ${PLATFORMS.join(", ")} only.`;
  return [
    problem,
    "The install script of onnxruntime-node also fetches CUDA files, which Shardsmith does not need, and fails where their host cannot be reached.",
    "Put the line onnxruntime-node-install=skip in .npmrc (or set npm_config_onnxruntime_node_install=skip), delete node_modules/onnxruntime-node and run npm install again.",
  ].join("\n");
}

export type Tensors = Readonly<Record<string, Tensor>>;

/** A compiled model. */
export interface Session {
  /** Fills the tensors in `outputs`, in place. An output may be an input too where the operator that makes it can bear that. */
  run(inputs: Tensors, outputs: Tensors): Promise<void>;
}

// Smaller ones cost less to collect than to discard.
const WORTH_DISCARDING = 1 << 16;

const OPTIONS = {
  interOpNumThreads: 1,
  // An arena never gives a peak back.
  enableCpuMemArena: false,
  // Errors reach the caller as exceptions; the log would print them once more.
  logSeverityLevel: 4,
} satisfies InferenceSession.SessionOptions;

const ON_CPU = {
  ...OPTIONS,
  // Every session has threads of its own: those that spin, waiting for more, take the cores from the next session's.
  extra: { session: { intra_op: { allow_spinning: "0" } } },
} satisfies InferenceSession.SessionOptions;

/** What the WebGPU provider does not compute is not to be computed elsewhere in silence. */
const ON_WEBGPU = { ...OPTIONS, executionProviders: ["webgpu"], extra: { session: { disable_cpu_ep_fallback: "1" } } } satisfies InferenceSession.SessionOptions;

/** Compiles a model to run on `threads` threads. */
export const compile = (model: OnnxModel, threads: number): Promise<Session> => sessionOf(model, { ...ON_CPU, intraOpNumThreads: threads });

/** Compiles a model for ONNX Runtime's WebGPU provider. Throws where there is no such provider, no GPU, or an operator that it does not have. */
export const compileForWebGpu = (model: OnnxModel): Promise<Session> => sessionOf(model, ON_WEBGPU);

/** Compiles a model of one output which stays on the GPU; whoever runs it disposes of that. */
export async function compileToKeep(model: OnnxModel): Promise<(inputs: Tensors) => Promise<Tensor>> {
  const { InferenceSession } = await loadRuntime();
  const session = await native(() => InferenceSession.create(encodeModel(model), { ...ON_WEBGPU, preferredOutputLocation: "gpu-buffer" }));
  return async (inputs) => Object.values(await native(() => session.run(inputs)))[0];
}

async function sessionOf(model: OnnxModel, options: InferenceSession.SessionOptions): Promise<Session> {
  const { InferenceSession } = await loadRuntime();
  const session = await native(() => InferenceSession.create(encodeModel(model), options));
  return {
    async run(inputs, outputs) {
      // Beside filling the outputs, the binding gives back a copy of each, which nobody needs.
      const copies = Object.values(await native(() => session.run(inputs, outputs))).map(({ data }) => (data as Float32Array<ArrayBuffer>).buffer);
      discard(copies.filter(({ byteLength }) => byteLength >= WORTH_DISCARDING));
    },
  };
}
