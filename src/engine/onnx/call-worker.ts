import { onnxLinearAlgebra } from "./linear-algebra.js";
import { serve } from "../threads/serve.js";

const linearAlgebra = onnxLinearAlgebra();

serve({
  call: async (moduleUrl: string, exportName: string, args: readonly unknown[]) => {
    const module = (await import(moduleUrl)) as Readonly<Record<string, unknown>>;
    const called = module[exportName];
    if (typeof called !== "function") throw new Error(`${moduleUrl} exports no function ${exportName}.`);
    return (called as (...all: readonly unknown[]) => unknown)(linearAlgebra, ...args);
  },
});
