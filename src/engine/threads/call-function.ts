import type { LinearAlgebra } from "../engine.js";

/** Runs `exportName` of the module at `moduleUrl` for `Engine.call`. */
export async function callFunction(linearAlgebra: LinearAlgebra, moduleUrl: string, exportName: string, args: readonly unknown[]): Promise<unknown> {
  const module = (await import(moduleUrl)) as Readonly<Record<string, unknown>>;
  const called = module[exportName];
  if (typeof called !== "function") throw new Error(`${moduleUrl} exports no function ${exportName}.`);
  return (called as (...all: readonly unknown[]) => unknown)(linearAlgebra, ...args);
}
