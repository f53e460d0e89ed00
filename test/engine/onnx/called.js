// What the tests of Engine.call have its threads run.
import { threadId } from "node:worker_threads";
import { transferring } from "#src/engine/transferring.js";

export const add = (_, a, b) => a + b;

export const thread = async () => {
  await new Promise((resolve) => setTimeout(resolve, 50));
  return threadId;
};

/** The product of two square matrices, moved back along with what came. */
export const square = async (linearAlgebra, a, n) => {
  const c = new Float64Array(n * n);
  await linearAlgebra.gemm({ m: n, n, k: n, a, b: a, c });
  return transferring({ a, c }, [a.buffer, c.buffer]);
};

export const fill = (_, shared, value) => {
  shared.fill(value);
};

export const fail = () => {
  throw new TypeError("no such luck");
};

export const failWith = (_, thrown) => {
  throw thrown;
};

export const die = () => {
  setImmediate(() => {
    throw new Error("out of the blue");
  });
  return new Promise(() => undefined);
};

export const leave = () => process.exit(3);

export const never = () => new Promise(() => undefined);

export const unclonable = () => () => undefined;

export const notAFunction = 7;
