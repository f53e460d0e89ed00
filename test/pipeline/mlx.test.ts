import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { inspect, quantize } from "shardsmith";
import { openModel } from "#src/pipeline/model.js";
import { openFolder } from "#src/source/folder.js";
import { DEMO_MODEL } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "shardsmith-mlx-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

it.each(["mlx", "awq"])("what %s holds of asymmetric linears is what was computed", async (format) => {
  const output = join(root, format);
  const report = await quantize({ source: DEMO_MODEL, output, format, method: "rtn", symmetric: false, groupSize: 64 });
  const sources = await Promise.all([DEMO_MODEL, output].map((folder) => openFolder(folder)));
  const models = await Promise.all(sources.map((source) => openModel(source)));
  for (const { name, quantized } of report.linears) {
    const [before, after] = await Promise.all(models.map((model) => model.load(`${name}.weight`)));
    const error = before.reduce((sum, w, i) => sum + (w - after[i]) ** 2, 0) / before.reduce((sum, w) => sum + w * w, 0);
    expect(error / quantized!.relativeError!).toBeCloseTo(1, 4);
  }
  for (const source of sources) await source.close();
});

it("is not taken for an original, whichever key of its config.json says so", async () => {
  const source = join(root, "mlx");
  const { quantization_config: packed, ...config } = JSON.parse(readFileSync(join(source, "config.json"), "utf8")) as Record<string, unknown>;
  expect(config["quantization"]).toEqual(packed);
  writeFileSync(join(source, "config.json"), JSON.stringify(config));
  await expect(quantize({ source, output: join(root, "twice") })).rejects.toThrow(`${source} is quantized already (config.json has a quantization); quantize the original instead`);
  expect((await inspect(source)).quantization).toMatchObject({ format: "mlx", bits: 4, groupSize: 64, linears: 28 });
});
