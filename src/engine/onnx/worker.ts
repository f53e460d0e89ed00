import { workerData } from "node:worker_threads";
import { Graphs } from "./graphs.js";
import { Hessians } from "./hessians.js";
import { loadRuntime } from "./runtime.js";
import { serve } from "../threads/serve.js";

/** The thread that runs graphs and Hessians: `run()` of ONNX Runtime blocks its event loop, not the caller's. */
const { threads } = workerData as { readonly threads: number };
const graphs = new Graphs();
const hessians = new Hessians(threads);

serve({
  version: async () => (await loadRuntime()).env.versions.node,
  prepare: graphs.prepare.bind(graphs),
  run: graphs.run.bind(graphs),
  release: graphs.release.bind(graphs),
  hessian: hessians.create.bind(hessians),
  add: hessians.add.bind(hessians),
  finish: hessians.finish.bind(hessians),
});
