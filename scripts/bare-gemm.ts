import { Tensor } from "onnxruntime-node";
import { gemmModel } from "#src/engine/onnx/linear-algebra.js";
import { compile } from "#src/engine/onnx/runtime.js";

export const noise = (length: number): Float32Array<ArrayBuffer> => Float32Array.from({ length }, () => Math.random() - 0.5);

/** A bare float32 product [m, k] · [k, n] by ONNX Runtime, to measure others by. */
export async function bareGemm(m: number, n: number, k: number, { transA = false, transB = true, threads }: { transA?: boolean; transB?: boolean; threads: number }): Promise<() => Promise<unknown>> {
  const session = await compile(gemmModel("float32", transA, transB, 1, 0), threads);
  const tensor = (rows: number, cols: number): Tensor => new Tensor("float32", noise(rows * cols), [rows, cols]);
  const a = transA ? tensor(k, m) : tensor(m, k);
  const b = transB ? tensor(n, k) : tensor(k, n);
  const y = tensor(m, n);
  return () => session.run({ a, b }, { y });
}
