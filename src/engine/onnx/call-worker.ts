import { callFunction } from "../threads/call-function.js";
import { serve } from "../threads/serve.js";
import { onnxLinearAlgebra } from "./linear-algebra.js";

const linearAlgebra = onnxLinearAlgebra();

serve({
  call: (moduleUrl: string, exportName: string, args: readonly unknown[]) => callFunction(linearAlgebra, moduleUrl, exportName, args),
});
