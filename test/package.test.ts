import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const DEMO_MODEL = join(ROOT, "test/fixtures/demo-model");
const folder = mkdtempSync(join(tmpdir(), "package-"));
afterAll(() => { rmSync(folder, { recursive: true, force: true }); });

const run = (command: string, args: readonly string[]): string => execFileSync(command, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
let files: string[];

beforeAll(() => {
  const [packed] = JSON.parse(execFileSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })) as { filename: string; files: { path: string }[] }[];
  files = packed.files.map(({ path }) => path);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }));
  run("npm", ["install", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", join(folder, packed.filename)]);
}, 300_000);

it("holds what users need, and no tests", () => {
  expect(files).toEqual(expect.arrayContaining(["LICENSE", "README.md", "package.json", "dist/src/index.js", "dist/src/index.d.ts", "dist/src/cli/main.js", "dist/src/engine/onnx/worker.js", "dist/src/engine/gpu/worker.js", "dist/kernels/hessian.js", "calibration-data/prose.txt"]));
  expect(files.filter((path) => /^(test|scripts|src)\/|\.test\.|demo-4bit/.test(path))).toEqual([]);
  expect((JSON.parse(readFileSync(join(folder, "node_modules/shardsmith/package.json"), "utf8")) as { license: string }).license).toBe("Apache-2.0");
});

it("runs as a command, with the calibration text that comes with it", () => {
  const told = run("npx", ["shardsmith", "quantize", DEMO_MODEL, "-o", "out", "--samples", "2", "--sequence-length", "64", "--quality", "fast", "--refine", "0", "--no-awq", "--threads", "1", "--json"]);
  expect(told).toContain('"origin":"the built-in text"');
  expect(existsSync(join(folder, "out/model.safetensors"))).toBe(true);
});

it("is a library with types", () => {
  writeFileSync(join(folder, "use.ts"), `
    import { quantize, evaluate, inspect, InputError, type Report, type QuantizeEvent } from "shardsmith";
    const told: QuantizeEvent["type"][] = [];
    const report: Report = await quantize({ source: process.argv[2], output: "by-library", samples: 2, sequenceLength: 64, quality: "fast", refine: 0, awq: false, threads: 1, onEvent: ({ type }) => told.push(type) });
    const { quantization } = await inspect("by-library");
    // @ts-expect-error: there are no groups of 100
    const wrong = await quantize({ source: "x", output: "y", groupSize: 100 }).catch((error: unknown) => error instanceof InputError);
    console.log(JSON.stringify([report.linears.length, told.at(-1), quantization?.format, wrong, typeof evaluate]));
  `);
  const types = ["--typeRoots", join(ROOT, "node_modules/@types"), "--types", "node"];
  run(process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "--strict", "--target", "es2023", "--module", "nodenext", ...types, "use.ts"]);
  expect(run(process.execPath, ["use.js", DEMO_MODEL]).trim()).toBe('[28,"done","gptq",true,"function"]');
});
