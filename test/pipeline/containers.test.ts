import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { planQuantize, quantize, type QuantizeOptions } from "shardsmith";
import { DEMO_MODEL, ONE_CORE, shardsmith } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "containers-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });
const OPTIONS = { source: DEMO_MODEL, samples: 2, sequenceLength: 32, groupSize: 32, quality: "fast", refine: 0, threads: 1, device: "cpu" } as const;
const made = (output: string, options: Partial<QuantizeOptions>) => quantize({ ...OPTIONS, output: join(root, output), ...options });

/** Every file but the reports, which tell times, and the cards, which tell of them. */
const contents = (folder: string): Record<string, string> =>
  Object.fromEntries((readdirSync(join(root, folder), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && !/^(shardsmith\.json|README\.md)$/.test(entry.name))
    .map((entry): [string, string] => [join(entry.parentPath, entry.name).slice(join(root, folder).length + 1), readFileSync(join(entry.parentPath, entry.name), "base64")])
    .sort());

it.each([
  ["gguf", { format: "gguf" }],
  ["onnx", { format: "onnx" }],
  ["several formats", { format: "gptq", alsoIn: ["gguf", "onnx", "mlx"] }],
])("is the same to the byte when it was interrupted: %s", async (name, options) => {
  await made(name, options);
  const expected = contents(name);
  for (let after = 3; ; after += 17) {
    const stop = new AbortController();
    let seen = 0;
    const onEvent = (): void => { if ((seen += 1) === after) stop.abort(new Error("stopped")); };
    const done = await made(`interrupted ${name}`, { ...options, onEvent, signal: stop.signal }).then(() => true, (error: unknown) => { expect((error as Error).message).toBe("stopped"); return false; });
    if (done) break;
  }
  expect(contents(`interrupted ${name}`)).toEqual(expected);
});

it.each([["gguf", 0], ["onnx", 1]])("is the same to the byte when it was killed: %s, in the layer after layer %i", async (format, layer) => {
  const { samples, sequenceLength, groupSize, quality, refine } = OPTIONS;
  const args = ["quantize", DEMO_MODEL, "--json", ...ONE_CORE, "--samples", String(samples), "--sequence-length", String(sequenceLength), "--group-size", String(groupSize),
    "--quality", quality, "--refine", String(refine), "--format", format, "-o", join(root, `killed ${format}`)];
  const first = await shardsmith(args, (line, kill) => {
    if (line.includes(`"type":"layer","layer":${String(layer)},`)) kill("SIGKILL");
  });
  expect(first.code).toBe("SIGKILL");
  const again = await shardsmith(args);
  expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('"type":"resume"') as string });
  expect(contents(`killed ${format}`)).toEqual(contents(format));
});

it("is as large as planned, and no folder of another kind", async () => {
  const { bytes } = await planQuantize({ ...OPTIONS, format: "onnx" });
  expect(readFileSync(join(root, "onnx", "onnx", "model_q4.onnx_data")).length).toBe(bytes);
  expect(Object.keys(contents("gguf"))).toEqual(["config.json", "generation_config.json", "model-Q4_0.gguf", "tokenizer.json", "tokenizer_config.json"]);
  expect(readFileSync(join(root, "gguf", "config.json"), "utf8")).not.toContain("quantization");
});

it("gives way to another format in its folder, and refuses to be pushed as several", async () => {
  await made("onnx", { method: "rtn", format: "gptq", overwrite: true });
  expect(readdirSync(join(root, "onnx", "onnx"))).toEqual([]);
  await expect(made("pushed", { alsoIn: ["gguf"], push: { repo: "a/b" } })).rejects.toThrow("one format can be pushed while it is made; quantize to a folder, and push the subfolder of each format to a repo of its own");
  await expect(made("pushed", { alsoIn: ["gptq"] })).rejects.toThrow("format gptq is named twice");
  expect(existsSync(join(root, "pushed"))).toBe(false);
});
