import type { Tensor } from "onnxruntime-node";
import type { LinearAlgebra } from "../engine.js";
import { compile, loadRuntime, type Session } from "./runtime.js";

type Vector = Float32Array | Float64Array;

/** Matrix products on the core that calls: a session for every kind of product that was asked for. */
export function onnxLinearAlgebra(): LinearAlgebra {
  const sessions = new Map<string, Promise<Session>>();

  return {
    async gemm({ m, n, k, a, b, c, transA = false, transB = false, alpha = 1, beta = 0 }) {
      const { Tensor } = await loadRuntime();
      const type = a instanceof Float64Array ? "float64" : "float32";
      const key = [type, transA, transB, alpha, beta].join();
      const session = sessions.get(key) ?? compile(gemmModel(type, transA, transB, alpha, beta), 1);
      sessions.set(key, session);
      const tensor = (data: Vector, rows: number, cols: number): Tensor => new Tensor(type, data as never, [rows, cols]);
      const target = own(c);
      const result = tensor(target, m, n);
      await (await session).run({
        a: transA ? tensor(own(a), k, m) : tensor(own(a), m, k),
        b: transB ? tensor(own(b), n, k) : tensor(own(b), k, n),
        ...(beta === 0 ? {} : { c: result }),
      }, { y: result });
      if (target !== c) c.set(target);
    },
  };
}

/** ONNX Runtime takes no memory that threads share: a copy, then. */
const own = (data: Vector): Vector => (data.buffer instanceof ArrayBuffer ? data : data.slice());

/** y = alpha · op(a) · op(b) + beta · c. */
export const gemmModel = (type: "float32" | "float64", transA: boolean, transB: boolean, alpha: number, beta: number) => {
  const value = (name: string) => ({ name, type, shape: [`${name}Rows`, `${name}Cols`] });
  const inputs = beta === 0 ? ["a", "b"] : ["a", "b", "c"];
  return {
    inputs: inputs.map(value),
    outputs: [value("y")],
    nodes: [{ op: "Gemm", inputs, outputs: ["y"], ints: { transA: Number(transA), transB: Number(transB) }, floats: { alpha, beta } }],
  };
};
