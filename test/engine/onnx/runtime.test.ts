import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { bindingHelp } from "#src/engine/onnx/runtime.js";

const run = (script: string, ...flags: string[]) => spawnSync(process.execPath, [...flags, "--input-type=module", "-e", script], { encoding: "utf8" });
const engineUrl = new URL("../../../dist/src/engine/onnx/create-onnx-engine.js", import.meta.url).href;

describe("a missing native binding", () => {
  it("is an InputError that names the platform and the way out", () => {
    expect(bindingHelp("linux-x64", "Cannot find module '../bin/x.node'\nRequire stack:\n- /a/b.js")).toBe([
      "ONNX Runtime's native binding for linux-x64 does not load: Cannot find module '../bin/x.node'",
      "The install script of onnxruntime-node also fetches CUDA files, which Shardsmith does not need, and fails where their host cannot be reached.",
      "Put the line onnxruntime-node-install=skip in .npmrc (or set npm_config_onnxruntime_node_install=skip), delete node_modules/onnxruntime-node and run npm install again.",
    ].join("\n"));
  });

  it("on a platform without one says which have one", () => {
    expect(bindingHelp("freebsd-x64", "Cannot find module '../bin/x.node'")).toBe([
      "ONNX Runtime's native binding for freebsd-x64 does not load: Cannot find module '../bin/x.node'",
      "onnxruntime-node has bindings for darwin-arm64, linux-arm64, linux-x64, win32-arm64, win32-x64 only.",
    ].join("\n"));
  });

  it("reaches the caller from the engine's thread, and lets the process end", () => {
    // A loader hook, which worker threads inherit, makes the package unresolvable.
    const hook = `export const resolve = (specifier, context, next) => {
      if (specifier === "onnxruntime-node") throw new Error("it is not here");
      return next(specifier, context);
    };`;
    const register = `import { register } from "node:module"; register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hook)}`)});`;
    const { stdout, stderr } = run(
      `const { createOnnxEngine } = await import(${JSON.stringify(engineUrl)});
       await createOnnxEngine().catch((error) => console.log(error.name + ": " + error.message));`,
      "--import", `data:text/javascript,${encodeURIComponent(register)}`);
    expect(stderr).toBe("");
    expect(stdout).toBe(`InputError: ${bindingHelp(`${process.platform}-${process.arch}`, "it is not here")}\n`);
  });
});

it("an engine that nobody closed does not keep the process alive", () => {
  const { stdout, status } = run(
    `const { createOnnxEngine } = await import(${JSON.stringify(engineUrl)});
     const engine = await createOnnxEngine({ threads: 1 });
     console.log(engine.description);`);
  expect(stdout).toMatch(/^ONNX Runtime \d+\.\d+\.\d+ on the CPU, 1 thread\n$/);
  expect(status).toBe(0);
});
