import { mkdtempSync, readFileSync, rmSync, writeFileSync, cpSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { evaluate, planQuantize, quantize, type Overview, type QuantizeSettings } from "shardsmith";
import { secondsOf, workOf } from "#src/pipeline/estimate.js";
import { prepareRun } from "#src/pipeline/prepare-run.js";
import { openFolder } from "#src/source/folder.js";
import { DEMO_MODEL, shardsmith } from "./cli.js";

const root = mkdtempSync(join(tmpdir(), "plan-"));
afterAll(() => { rmSync(root, { recursive: true }); });
const overview = async (settings: QuantizeSettings = {}): Promise<Overview> => (await planQuantize({ source: DEMO_MODEL, ...settings })).overview;
const prepared = async (settings: QuantizeSettings) => {
  const source = await openFolder(DEMO_MODEL);
  try {
    return await prepareRun(source, settings);
  } finally {
    await source.close();
  }
};

it("prints a table of what becomes of the tensors, and which programs load it", async () => {
  const { code, stdout, stderr } = await shardsmith(["plan", DEMO_MODEL, "--bits", "3", "--keep", "*.o_proj"]);
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toContain(`${DEMO_MODEL}: llama, 4 layers, 918,656 parameters\n`);
  expect(stdout).toMatch(/^mlp\.down_proj +4 +128 × 384 +3 bits, 128 +393 kB +\d+\.?\d* kB$/m);
  expect(stdout).toMatch(/^self_attn\.o_proj +4 +128 × 128 +as it is +131 kB +131 kB$/m);
  expect(stdout).toMatch(/^model\.embed_tokens +1 +as it is +262 kB +262 kB$/m);
  expect(stdout).toMatch(/^memory +about \d+ MB, 268 MB of it hidden states \(--memory 2GB\)$/m);
  expect(stdout).toMatch(/^time +about .* with 65,536 calibration tokens \(forward .*, Hessians .*, rounding .*\), at \d+ GFLOP\/s on \d+ threads?$/m);
  expect(stdout).toMatch(/^format gptq: .*\n {2}transformers {4}yes\n {2}GPTQModel {7}yes\n {2}vLLM {12}no {7}vLLM takes gptq in 4 and 8 bits and symmetric only\n {2}llama\.cpp {7}no /m);
  expect(stdout).toContain("--format compressed-tensors: compressed-tensors holds 4 or 8 bits, not 3: its readers pack codes that do not fill a word in two ways, by their version\n");
  expect(stdout).toContain("Note: left as they are: model.layers.*.self_attn.o_proj (4), because it is to be kept\n");
  // Once is enough.
  expect(stdout.match(/vLLM takes gptq/g)).toHaveLength(1);
});

it("prints the same as JSON, and refuses what quantize refuses", async () => {
  const { stdout } = await shardsmith(["plan", DEMO_MODEL, "--json"]);
  expect(JSON.parse(stdout)).toMatchObject({ type: "plan", modelType: "llama", layers: 4, parameters: 918656, bytes: 703912, calibrationTokens: 65536, estimate: { speed: { threads: expect.any(Number) as number } } });
  expect(await shardsmith(["plan", DEMO_MODEL, "--samples", "0"])).toEqual({ code: 1, stdout: "", stderr: "samples is 0; it must be a whole number of at least 1\n" });
});

it.each(["gptq", "gguf"])("counts every byte of the checkpoint once, before and after: %s", async (format) => {
  const { linears, others, sourceBytes, bytes } = await overview({ format, bitsFor: [{ pattern: "*.0.*", bits: 8 }] });
  const all = [...linears, ...others];
  expect(all.reduce((sum, { before }) => sum + before, 0)).toBe(sourceBytes);
  const header = bytes - all.reduce((sum, { after }) => sum + after, 0);
  expect(header).toBeGreaterThan(0);
  expect(header).toBeLessThan(50_000);
  expect(linears.filter(({ kind }) => kind === "mlp.up_proj").map(({ bits, count }) => [bits, count])).toEqual([[8, 1], [4, 3]]);
  // llama.cpp wants norms in F32.
  const norms = others.find(({ kind }) => kind === "norms and biases")!;
  expect(norms.after / norms.before).toBe(format === "gguf" ? 2 : 1);
});

it("needs no more hidden states in memory than it may have; the rest goes to disk", async () => {
  const { needs: all } = await overview();
  const { needs: few } = await overview({ memory: 1e7 });
  expect(few.memory.hidden).toBe(1e7);
  expect(few.disk.scratch - all.disk.scratch).toBe(all.memory.hidden - 1e7);
  expect(all.memory.peak - few.memory.peak).toBe(all.memory.hidden - 1e7);
  expect((await overview({ method: "rtn" })).needs).toMatchObject({ memory: { hidden: 0 }, disk: { scratch: 0 } });
});

it("counts work as it grows", async () => {
  const work = async (settings: QuantizeSettings) => workOf(await prepared(settings));
  const one = await work({ samples: 10 });
  const two = await work({ samples: 20 });
  expect([two.forward / one.forward, two.hessian / one.hessian, two.factor / one.factor, two.sweep / one.sweep].map((ratio) => Math.round(1e9 * ratio) / 1e9)).toEqual([2, 2, 1, 1]);
  // Products alone: two operations a weight and token, with the share of their speed that they reach.
  const weights = (await overview()).linears.reduce((sum, { count, outFeatures, inFeatures }) => sum + count * outFeatures * inFeatures, 0);
  expect(one.forward).toBeGreaterThan(2 * weights * 10 * 512);
  expect((await work({ samples: 10, retarget: false })).forward).toBeCloseTo(one.forward / 2, 0);
  expect((await work({ quality: "best" })).sweep).toBeGreaterThan((await work({ quality: "fast" })).sweep);
  expect(await work({ method: "rtn" })).toMatchObject({ forward: 0, hessian: 0, factor: 0 });
  // Variants are as many as layers, and each goes through half of them.
  const survey = (settings: QuantizeSettings) => work({ targetBits: 5, ...settings }).then((all) => all.survey);
  expect([one.survey, (await survey({ method: "rtn" })) / (await survey({}))]).toEqual([0, 1]);
  expect((await survey({ keep: ["*.mlp.*"] })) / (await survey({}))).toBeLessThan(0.7);
  const run = await prepared({});
  const surveyed = await prepared({ targetBits: 5 });
  const speed = { flops: 1e9, threads: 1 };
  expect(secondsOf(surveyed, speed).total - secondsOf(run, speed).total).toBeCloseTo((await survey({})) / 1e9, 5);
  expect(secondsOf(run, { flops: 1e9, threads: 1 }).total).toBeGreaterThan(secondsOf(run, { flops: 1e11, threads: 1 }).total);
});

it("has a card beside the checkpoint, into which eval --save writes what it measured of it", async () => {
  const source = join(root, "source");
  cpSync(DEMO_MODEL, source, { recursive: true });
  writeFileSync(join(source, "README.md"), "---\nlicense: apache-2.0\n---\n# The original\n");
  const output = join(root, "out");
  const read = (name: string): string => readFileSync(join(output, name), "utf8");
  const text = join(root, "text.txt");
  writeFileSync(text, "A little girl found a box in the garden. ".repeat(20));
  const run = { source, output, samples: 1, sequenceLength: 32, refine: 0, awq: false } as const;
  await quantize(run);
  const plain = read("README.md");
  expect(plain).toContain("license: apache-2.0");
  expect(plain).not.toContain("The original");
  writeFileSync(join(output, "README.md"), `${plain}\nMine.\n`);
  const { perplexity } = await evaluate({ model: output, text, maxTokens: 64, save: true });
  const measured = read("README.md");
  expect(measured).toContain(`| perplexity |  | ${perplexity.toFixed(4)} ± `);
  expect(measured.endsWith("\nMine.\n")).toBe(true);
  // Another checkpoint in its place was not measured.
  await quantize({ ...run, bits: 8, overwrite: true });
  expect(read("README.md")).toContain("Neither perplexity nor KL divergence was measured.");
  expect(read("README.md").endsWith("\nMine.\n")).toBe(true);
  await expect(evaluate({ model: DEMO_MODEL, text, save: true })).rejects.toThrow(`${DEMO_MODEL} has no shardsmith.json: Shardsmith did not make this checkpoint, or has not finished it`);
});
