import type { Activations, Engine } from "./engine.js";
import { secondsARun } from "./seconds-a-run.js";

/** What is measured: inputs, and tokens a batch. */
export interface Measured {
  readonly n: number;
  readonly tokens: number;
}

const SECONDS = 0.25;

/**
 * Multiplications and additions a second of Hessian updates, of which the upper half alone is counted: n² · tokens in all.
 * @param settle waits for what was given away and is not done yet
 */
export async function hessianSpeed(engine: Engine, { n, tokens }: Measured, settle: () => Promise<void> = () => Promise.resolve()): Promise<number> {
  const hessian = await engine.hessian(n);
  let x: Activations = { batch: 1, tokens, width: n, data: Float32Array.from({ length: n * tokens }, (_, i) => Math.sin(i)) };
  const add = async (): Promise<void> => {
    x = await hessian.add(x);
  };
  const seconds = await secondsARun(add, SECONDS, settle);
  await hessian.finish();
  return (n * n * tokens) / seconds;
}

/** "123 GFLOP/s" */
export const gigaflops = (flops: number): string => `${inBillions(flops)} GFLOP/s`;

/** "123 GB/s" */
export const gigabytes = (bytes: number): string => `${inBillions(bytes)} GB/s`;

function inBillions(value: number): string {
  const billions = value / 1e9;
  return billions >= 99.5 ? billions.toFixed(0) : billions.toPrecision(2);
}
