import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { planQuantize, quantize, type QuantizeOptions } from "shardsmith";
import { toFloat32 } from "#src/safetensors/floats.js";
import { parseHeader } from "#src/safetensors/header.js";
import { DEMO_MODEL } from "../cli/cli.js";
import { FILE } from "./flat-format.js";

vi.mock("#src/formats/formats.js", async (original) => {
  const real = await original<typeof import("#src/formats/formats.js")>();
  const { flat } = await import("./flat-format.js");
  return { ...real, FORMATS: [...real.FORMATS, flat], formatByName: (name: string) => (name === "flat" ? flat : real.formatByName(name)) };
});

const root = mkdtempSync(join(tmpdir(), "container-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });
const OPTIONS = { source: DEMO_MODEL, samples: 2, sequenceLength: 32, groupSize: 32, quality: "fast", refine: 1, threads: 1 } as const;
const made = (output: string, options: Partial<QuantizeOptions> = {}) => quantize({ ...OPTIONS, output: join(root, output), format: "flat", ...options });
const bytesIn = (folder: string, file: string): Buffer => readFileSync(join(root, folder, file));

it("holds what a safetensors format holds, in a layout of its own", async () => {
  const report = await made("flat");
  expect(readdirSync(join(root, "flat")).sort()).toEqual(["README.md", "config.json", "generation_config.json", "onnx", "shardsmith.json", "tokenizer.json", "tokenizer_config.json"]);
  expect(JSON.parse(bytesIn("flat", "config.json").toString())).toMatchObject({ model_type: "llama", flat: true });
  expect(bytesIn("flat", "config.json").toString()).not.toContain("quantization_config");
  const file = bytesIn("flat", FILE);
  expect(report.shards).toMatchObject([{ file: FILE, size: file.length }]);
  expect(report.bytes).toBe(file.length);
  expect((await planQuantize({ ...OPTIONS, format: "flat" })).bytes).toBe(file.length);
  expect(file.subarray(0, 64).toString()).toBe("flat".padEnd(64, "\0"));

  await made("gptq", { format: "gptq" });
  const reference = bytesIn("gptq", "model.safetensors");
  const { tensors } = parseHeader(reference, reference.length, "model.safetensors");
  const { places } = JSON.parse(bytesIn("flat", "onnx/model_flat.onnx").toString()) as { places: [string, number, number][] };
  expect(places.map(([name]) => name)).not.toContain("model.norm.weight");
  const found = new Map(places.map(([name, start, end]) => [name, file.subarray(start, end)]));
  let scales = 0;
  let plain = 0;
  for (const [name, { start, end, shape }] of tensors) {
    const module = /^(.*)\.scales$/.exec(name)?.[1];
    if (module !== undefined) {
      // [groups, out] in f16 there, [out, groups] in f32 here.
      const [groups, out] = shape;
      const halves = toFloat32(new Uint8Array(reference.subarray(start, end)), "F16");
      const own = new Float32Array(new Uint8Array(found.get(name)!).buffer);
      expect(own.every((scale, i) => scale === halves[(i % groups) * out + (module.endsWith("q_proj") ? out - 1 - Math.floor(i / groups) : Math.floor(i / groups))])).toBe(true);
      scales += 1;
    } else if (found.has(name)) {
      expect(Buffer.from(Uint16Array.from(reference.subarray(start, end)).buffer).equals(found.get(name)!)).toBe(true);
      plain += 1;
    }
  }
  expect([scales, plain]).toEqual([28, 9]);
});

it("is the same to the byte when it was interrupted", async () => {
  const expected = bytesIn("flat", FILE);
  for (let after = 2; ; after += 11) {
    const stop = new AbortController();
    let seen = 0;
    const onEvent = (): void => { if ((seen += 1) === after) stop.abort(new Error("stopped")); };
    const done = await made("interrupted", { onEvent, signal: stop.signal }).then(() => true, (error: unknown) => { expect((error as Error).message).toBe("stopped"); return false; });
    if (done) break;
    expect(existsSync(join(root, "interrupted", "config.json"))).toBe(false);
  }
  expect(bytesIn("interrupted", FILE).equals(expected)).toBe(true);
});

it("gives way to another format, and refuses models that it cannot hold", async () => {
  await made("interrupted", { format: "gptq", overwrite: true });
  expect(readdirSync(join(root, "interrupted", "onnx"))).toEqual([]);
  await expect(made("other", { source: new URL("../fixtures/models/qwen2", import.meta.url).pathname, method: "rtn" })).rejects.toThrow("flat holds llama only");
});
