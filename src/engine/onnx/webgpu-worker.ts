import { native } from "../threads/native-guard.js";
import { serve } from "../threads/serve.js";
import { transferring, type Transferring } from "../transferring.js";
import type { GraphRun } from "./graphs.js";
import { WebGpuGraphs } from "./webgpu-graphs.js";

/** What came out, or what went wrong; the memory comes back in either case. */
export interface Ran extends GraphRun {
  readonly trouble?: string;
}

/** The thread that runs graphs on ONNX Runtime's WebGPU provider: that waits for the GPU, and must hold up neither the caller nor the CPU's kernels. */
const graphs = new WebGpuGraphs();

serve({
  open: graphs.open.bind(graphs),
  prepare: graphs.prepare.bind(graphs),
  async run(id: number, given: GraphRun): Promise<Transferring<Ran>> {
    const buffers = [given.inputs, given.outputs].flatMap((named) => Object.values(named).map(({ data }) => data.buffer));
    try {
      await graphs.run(id, given);
      return transferring(given, buffers);
    } catch (error) {
      return transferring({ ...given, trouble: error instanceof Error ? error.message : String(error) }, buffers);
    }
  },
  release: (id: number) => native(() => Promise.resolve(graphs.release(id))),
  peak: () => graphs.peak,
});
