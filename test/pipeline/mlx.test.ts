import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { convert, InputError, inspect, quantize } from "shardsmith";
import { openModel } from "#src/pipeline/model.js";
import { openCheckpoint } from "#src/source/checkpoint.js";
import { openFolder } from "#src/source/folder.js";
import { DEMO_MODEL } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "shardsmith-mlx-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

it.each([["mlx", 4], ["mlx", 6], ["awq", 4]] as const)("what %s holds of asymmetric linears of %i bits is what was computed", async (format, bits) => {
  const output = join(root, `${format}-${String(bits)}`);
  const report = await quantize({ source: DEMO_MODEL, output, format, bits, method: "rtn", symmetric: false, groupSize: 64 });
  const sources = await Promise.all([DEMO_MODEL, output].map((folder) => openFolder(folder)));
  const models = await Promise.all(sources.map((source) => openModel(source)));
  for (const { name, quantized } of report.linears) {
    const [before, after] = await Promise.all(models.map((model) => model.load(`${name}.weight`)));
    const error = before.reduce((sum, w, i) => sum + (w - after[i]) ** 2, 0) / before.reduce((sum, w) => sum + w * w, 0);
    expect(error / quantized!.relativeError!).toBeCloseTo(1, 4);
  }
  for (const source of sources) await source.close();
});

it("takes 6 bits for some linears, and is refused by what holds none", async () => {
  const output = join(root, "some");
  const down = { pattern: "*.down_proj", bits: 6 } as const;
  await quantize({ source: DEMO_MODEL, output, format: "mlx", bits: 8, method: "rtn", bitsFor: [down] });
  expect((await inspect(output)).quantization).toMatchObject({ format: "mlx", mix: [{ bits: 8, linears: 24 }, { bits: 6, linears: 4 }] });
  const folder = await openFolder(output);
  const { tensors } = await openCheckpoint(folder);
  await folder.close();
  expect(["up_proj", "down_proj"].map((name) => tensors.get(`model.layers.0.mlp.${name}.weight`)!.shape)).toEqual([[384, (128 * 8) / 32], [128, (384 * 6) / 32]]);
  const refusal = "gptq holds 2, 3, 4 or 8 bits, not 6: GPTQModel keeps 5 to 7 in a layout of its own (gptq_p), which only it reads";
  await expect(quantize({ source: DEMO_MODEL, output: join(root, "never"), bitsFor: [down] })).rejects.toThrow(new InputError(refusal));
  await expect(convert({ source: output, formats: ["gptq"], output: join(root, "never") })).rejects.toThrow(`model.layers.0.mlp.down_proj cannot be converted to gptq: ${refusal}`);
  expect(existsSync(join(root, "never"))).toBe(false);
});

it("is not taken for an original, whichever key of its config.json says so", async () => {
  const source = join(root, "mlx-4");
  const { quantization_config: packed, ...config } = JSON.parse(readFileSync(join(source, "config.json"), "utf8")) as Record<string, unknown>;
  expect(config["quantization"]).toEqual(packed);
  writeFileSync(join(source, "config.json"), JSON.stringify(config));
  await expect(quantize({ source, output: join(root, "twice") })).rejects.toThrow(`${source} is quantized already (config.json has a quantization); quantize the original instead`);
  expect((await inspect(source)).quantization).toMatchObject({ format: "mlx", bits: 4, groupSize: 64, linears: 28 });
});
