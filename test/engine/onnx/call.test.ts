import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Engine } from "#src/engine/engine.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { plainLinearAlgebra } from "../plain-linear-algebra.js";
import { random, relativeError } from "../random.js";

const module = new URL("./called.js", import.meta.url).href;
let engine: Engine;
beforeEach(async () => {
  engine = await createOnnxEngine({ threads: 2 });
});
afterEach(() => engine.close());

const call = <R>(name: string, ...args: unknown[]) => engine.call<R>(module, name, args);

describe("call", () => {
  it("runs a module's export in a thread", async () => {
    expect(await call("add", 2, 3)).toBe(5);
  });

  it("runs as many side by side as the engine says, and the rest after them", async () => {
    expect(engine.parallelism).toBe(2);
    const threads = await Promise.all(Array.from({ length: 7 }, () => call<number>("thread")));
    expect(new Set(threads).size).toBe(2);
    expect(threads).not.toContain(0);
  });

  it("gives linear algebra, and moves what is to be moved, both ways", async () => {
    const n = 40, a = Float64Array.from(random(n * n)), expected = new Float64Array(n * n);
    await plainLinearAlgebra.gemm({ m: n, n, k: n, a, b: a, c: expected });
    const copy = a.slice();
    const back = await engine.call<{ a: Float64Array; c: Float64Array }>(module, "square", [copy, n], [copy.buffer]);
    expect(copy.length).toBe(0);
    expect(back.a).toEqual(a);
    expect(relativeError(back.c, expected)).toBeLessThan(1e-14);
  });

  it("shares shared memory", async () => {
    const shared = new Float32Array(new SharedArrayBuffer(16));
    await call("fill", shared, 7);
    expect([...shared]).toEqual([7, 7, 7, 7]);
  });
});

describe("a call that fails", () => {
  it("is rejected with what was thrown, and the thread goes on", async () => {
    for (let i = 0; i < 3; i++) await expect(call("fail")).rejects.toThrow("no such luck");
    await expect(call("failWith", "a string")).rejects.toThrow("a string");
    await expect(call("unclonable")).rejects.toThrow("() => undefined could not be cloned.");
    expect(await call("add", 2, 3)).toBe(5);
  });

  it("says which export is missing", async () => {
    await expect(call("nothing")).rejects.toThrow(`${module} exports no function nothing.`);
    await expect(call("notAFunction")).rejects.toThrow(`${module} exports no function notAFunction.`);
    await expect(engine.call("file:///nowhere.js", "x", [])).rejects.toThrow("Cannot find module '/nowhere.js'");
  });

  it("takes no other down when its thread dies, and another thread takes its place", async () => {
    const others = Array.from({ length: 4 }, (_, i) => call<number>("add", i, 1));
    await expect(call("die")).rejects.toThrow("A thread of the engine died: out of the blue");
    await expect(call("leave")).rejects.toThrow("A thread of the engine ended by itself, with code 3.");
    expect(await Promise.all(others)).toEqual([1, 2, 3, 4]);
    expect(await Promise.all([1, 2, 3].map((i) => call("add", i, i)))).toEqual([2, 4, 6]);
  });

  it("is rejected when the arguments cannot be cloned, and holds no thread", async () => {
    for (let i = 0; i < 3; i++) await expect(call("add", () => 1)).rejects.toThrow("() => 1 could not be cloned.");
    expect(await call("add", 2, 3)).toBe(5);
  });
});

describe("close", () => {
  it("rejects what is under way, what waits and what comes later", async () => {
    const calls = Array.from({ length: 5 }, () => call("never"));
    const settled = Promise.allSettled(calls);
    const hessian = await engine.hessian(3);
    await engine.close();
    for (const result of await settled) expect(result).toMatchObject({ status: "rejected", reason: new Error("The engine was closed.") });
    await expect(call("add", 1, 2)).rejects.toThrow("The engine was closed.");
    await expect(hessian.finish()).rejects.toThrow("The engine was closed.");
  });
});
