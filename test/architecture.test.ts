import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { dirname, join, normalize, relative } from "node:path";
import { expect, it } from "vitest";

const SRC = fileURLToPath(new URL("../src", import.meta.url));
const files = (readdirSync(SRC, { recursive: true }) as string[]).filter((file) => file.endsWith(".ts"));
const importsOf = (file: string): string[] =>
  [...readFileSync(join(SRC, file), "utf8").matchAll(/^(?:import|export)\s[^;]*?from\s+"([^"]+)"|import\("([^"]+)"\)/gm)].map((match) => match[1] ?? match[2]);

/** From the top down, as the design's map has it: a folder may import from its own row and those below. */
const ROWS = [["cli"], ["index.ts"], ["library"], ["pipeline"], ["source", "calibration", "model", "quantize", "formats", "evaluate", "report", "publish"], ["safetensors", "onnx", "wasm", "engine", "hub"], ["digest.ts", "errors.ts", "version.ts"]];
const rowOf = (file: string): number => {
  const row = ROWS.findIndex((names) => names.includes(file.split("/")[0]));
  if (row < 0) throw new Error(`${file} stands on no row of the map`);
  return row;
};

/** The edges: everything else runs wherever JavaScript does. */
const EDGES = [/^cli\//, /^library\//, /^hub\/environment\.ts$/, /^source\/(folder|hub-cache|text-files)\.ts$/, /^pipeline\/(file-blob|finished-folder|folder-sink|folder-lock|scratch-file|spill-file)\.ts$/, /^engine\/(onnx|gpu|threads)\//];

it("imports node: modules at the edges only", () => {
  const strayed = files.filter((file) => importsOf(file).some((name) => name.startsWith("node:")) && !EDGES.some((edge) => edge.test(file)));
  expect(strayed).toEqual([]);
});

it("imports downward only", () => {
  const upward = files.flatMap((file) =>
    importsOf(file)
      .filter((name) => name.startsWith("."))
      .map((name) => normalize(join(dirname(file), name)).replace(/\.js$/, ".ts"))
      .filter((target) => rowOf(target) < rowOf(file))
      .map((target) => `${file} → ${target}`),
  );
  expect(upward).toEqual([]);
});

it("keeps methods from formats and models, formats from methods' workings, and safetensors from both", () => {
  const strayed = files.flatMap((file) => {
    const folder = file.split("/")[0];
    const targets = importsOf(file).filter((name) => name.startsWith(".")).map((name) => relative(".", normalize(join(dirname(file), name))));
    const nouns = /^(quantize\/(scheme|quantized-linear)|model\/decoder)\.js$/;
    return targets
      .filter((target) => (folder === "quantize" && /^(formats|model)\//.test(target)) || (folder === "formats" && /^(model|quantize)\//.test(target) && !nouns.test(target)))
      .map((target) => `${file} → ${target}`);
  });
  expect(strayed).toEqual([]);
});

it("lets nothing but the engine know that ONNX Runtime, gpu.js and kernels exist", () => {
  const knowing = files.filter((file) => importsOf(file).some((name) => /^(onnxruntime|gpu\.js|webgpu|#kernels)/.test(name)) && !file.startsWith("engine/"));
  expect(knowing).toEqual([]);
  // What makes the engine is called by name where everything is wired together, and nowhere else.
  const making = files.filter((file) => importsOf(file).some((name) => /engine\/(onnx|gpu)\//.test(name))).sort();
  expect(making).toEqual(["index.ts", ...["devices", "engine", "plan", "quantize", "survey"].map((name) => `library/${name}.ts`)]);
});
