import type { MessagePort } from "node:worker_threads";
import type { LinearAlgebra } from "../engine.js";
import { onnxLinearAlgebra } from "../onnx/linear-algebra.js";
import { callFunction } from "../threads/call-function.js";
import { serve } from "../threads/serve.js";
import { residentOver } from "./resident-over.js";

let linearAlgebra: LinearAlgebra = onnxLinearAlgebra();

serve({
  /** Gives it the device of the thread at the other end. */
  connect: (port: MessagePort, device: string) => { linearAlgebra = { ...linearAlgebra, resident: residentOver(port, device) }; },
  call: (moduleUrl: string, exportName: string, args: readonly unknown[]) => callFunction(linearAlgebra, moduleUrl, exportName, args),
});
