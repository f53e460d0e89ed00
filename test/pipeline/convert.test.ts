import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { convert, evaluate, inspect, quantize, type QuantizeOptions } from "shardsmith";
import { FORMATS } from "#src/formats/formats.js";
import { openModel } from "#src/pipeline/model.js";
import { openFolder } from "#src/source/folder.js";
import { DEMO_MODEL } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "convert-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });
const at = (...names: string[]): string => join(root, ...names);
const OTHERS = FORMATS.map(({ name }) => name).filter((name) => name !== "gptq");
const made = (name: string, options: Partial<QuantizeOptions> = {}) => quantize({ source: DEMO_MODEL, output: at(name), method: "rtn", search: false, threads: 1, ...options });

/** Every weight of the model, as float32. */
async function weightsOf(folder: string): Promise<Map<string, Float32Array>> {
  const source = await openFolder(folder);
  try {
    const { decoder, load } = await openModel(source);
    const names = [decoder.embedding.tensor, decoder.finalNorm.tensor, ...Array.from({ length: decoder.layers }, (_, layer) => decoder.tensorsOf(layer)).flat()];
    return new Map(await Promise.all(names.map(async (name): Promise<[string, Float32Array]> => [name, await load(name)])));
  } finally {
    await source.close();
  }
}
async function expectSameWeights(folder: string, as: string): Promise<void> {
  const [own, wanted] = [await weightsOf(at(folder)), await weightsOf(at(as))];
  for (const [name, values] of wanted) expect([name, Buffer.from(own.get(name)!.buffer).equals(Buffer.from(values.buffer))]).toEqual([name, true]);
}

beforeAll(async () => {
  // Scales that every format can hold.
  await made("symmetric", { alsoIn: OTHERS });
  await made("asymmetric", { alsoIn: OTHERS, symmetric: false });
}, 300_000);

describe.each(["symmetric", "asymmetric"])("%s codes in groups of 128", (kind) => {
  it.each(OTHERS)("are the same weights in the format %s, and back again", async (format) => {
    await expectSameWeights(join(kind, format), join(kind, "gptq"));
    const back = at(`${kind}-${format}-back`);
    await convert({ source: at(kind, format), formats: ["gptq"], output: back });
    await expectSameWeights(`${kind}-${format}-back`, join(kind, "gptq"));
    const { quantization } = await inspect(back);
    expect(quantization).toMatchObject({ format: "gptq", bits: 4, linears: 28, symmetric: kind === "symmetric" });
  });
});

it("writes the tensors that the first format had, to the byte, where nothing is lost", async () => {
  await convert({ source: at("symmetric", "awq"), formats: ["gptq"], output: at("again") });
  expect(readFileSync(at("again", "model.safetensors")).equals(readFileSync(at("symmetric", "gptq", "model.safetensors")))).toBe(true);
});

it("says in report and card what it was made by and converted from", async () => {
  const report = JSON.parse(readFileSync(at("symmetric", "mlx", "shardsmith.json"), "utf8")) as Record<string, unknown>;
  expect(report).toMatchObject({ source: DEMO_MODEL, run: { method: "rtn", format: "mlx", bits: 4, "group size": 128 }, converted: { format: "gptq", source: at("symmetric", "gptq") } });
  const card = readFileSync(at("symmetric", "mlx", "README.md"), "utf8");
  expect(card).toContain("--format gptq,");
  expect(card).toContain("- mlx\n");
  // Without a report, nothing is known but the codes.
  cpSync(at("symmetric", "gptq"), at("foreign"), { recursive: true });
  rmSync(at("foreign", "shardsmith.json"));
  await convert({ source: at("foreign"), formats: ["awq"], output: at("foreign-awq") });
  expect(readFileSync(at("foreign-awq", "README.md"), "utf8")).toContain("npx shardsmith convert foreign --format awq -o converted");
  await expectSameWeights("foreign-awq", join("symmetric", "gptq"));
});

describe("refuses", () => {
  const refusal = (folder: string, format: string, output = "refused"): Promise<unknown> => convert({ source: at(folder), formats: [format], output: at(output) }).then(() => "converted", (error: unknown) => (error as Error).message);

  it("what a format cannot hold, by the linear's name, and leaves nothing behind", async () => {
    await made("halves", { groupSize: 32 });
    expect(await refusal("halves", "compressed-tensors")).toMatch(/halves: model\.layers\.0\.self_attn\.q_proj cannot be converted to compressed-tensors: the scale -?0\.\d+ of group 0 of row 0 is no BF16, in which it would be kept$/);
    await made("rows", { groupSize: -1 });
    expect(await refusal("rows", "mlx")).toContain("is no BF16");
    await made("three", { bits: 3 });
    expect(await refusal("three", "awq")).toBe(`${at("three")}: model.layers.0.self_attn.q_proj cannot be converted to awq: awq holds 4 bits, not 3`);
    expect(existsSync(at("refused"))).toBe(false);
  });

  it("act order, where a format has none", async () => {
    await made("act", { method: "gptq", order: "act", samples: 2, sequenceLength: 32, quality: "fast", refine: 0, awq: false });
    expect(await refusal("act", "onnx")).toMatch(/cannot be converted to onnx: onnx has no act order: /);
    expect(await refusal("act", "gguf")).toMatch(/cannot be converted to gguf: .*act order/);
  }, 120_000);

  it("a plain checkpoint, the format that it has, its own folder, and a folder that holds something else", async () => {
    expect(await convert({ source: DEMO_MODEL, formats: ["awq"], output: at("refused") }).catch((error: unknown) => (error as Error).message)).toBe(`${DEMO_MODEL} is not quantized; quantize it first, in the format that is wanted`);
    expect(await refusal("halves", "gptq")).toBe(`${at("halves")} is in the format gptq already`);
    expect(await refusal("halves", "awq", "halves")).toBe(`${at("halves")} is the source itself; choose another output folder`);
    expect(await refusal("halves", "awq", join("symmetric", "awq"))).toBe(`${at("symmetric", "awq")} holds another checkpoint; choose another folder, or use --overwrite`);
    expect(await refusal("halves", "zip")).toBe(`No format is called "zip"; there are ${FORMATS.map(({ name }) => name).join(", ")}`);
  });
});

it("knows what it has written, and replaces it where it is told to", async () => {
  const options = { source: at("halves"), formats: ["awq"], output: at("twice") };
  const told: unknown[] = [];
  await convert(options);
  await convert({ ...options, onEvent: (event) => told.push(event.type === "done" ? event.already : event.type) });
  expect(told.filter((one) => one !== "checked")).toEqual([true]);
  await convert({ ...options, formats: ["gguf"], overwrite: true });
  expect(readdirSync(at("twice")).filter((name) => /safetensors|gguf/.test(name))).toEqual(["model-Q4_0.gguf"]);
});

it("leaves nothing that could be loaded when it is stopped", async () => {
  const stop = new AbortController();
  const done = convert({ source: at("halves"), formats: ["gguf"], output: at("stopped"), signal: stop.signal, onEvent: ({ type }) => { if (type === "written") stop.abort(new Error("stopped")); } });
  await expect(done).rejects.toThrow("stopped");
  expect(existsSync(at("stopped"))).toBe(false);
});

describe("a damaged checkpoint is named as such by inspect, convert and eval", () => {
  const damaged = async (from: string, damage: (folder: string) => void): Promise<string[]> => {
    const folder = at("damaged");
    rmSync(folder, { recursive: true, force: true });
    cpSync(at(from), folder, { recursive: true });
    damage(folder);
    const format = from.includes("gptq") ? "awq" : "gptq";
    const runs = [inspect(folder), convert({ source: folder, formats: [format], output: at("refused") }), evaluate({ model: folder, maxTokens: 32, sequenceLength: 32 })];
    return Promise.all(runs.map((run) => run.then(() => "no error", (error: unknown) => (error as Error).message.replaceAll(root, ""))));
  };
  const editConfig = (folder: string, edit: (config: Record<string, unknown>) => void): void => {
    const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<string, unknown>;
    edit(config);
    writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  };
  const same = (message: string): string[] => [message, message, message];

  it("a truncated GGUF file", async () => {
    const messages = await damaged("symmetric/gguf", (folder) => { truncateSync(join(folder, "model-Q4_0.gguf"), 500_000); });
    expect(messages[0]).toMatch(/^\/damaged\/model-Q4_0\.gguf: tensor "blk\.\d+\.\w+\.weight" ends at byte \d+, but the file has only 500000$/);
    expect(messages).toEqual(same(messages[0]));
  });

  it("a packed tensor of another shape", async () => {
    const messages = await damaged("symmetric/gptq", (folder) => {
      const file = join(folder, "model.safetensors");
      const bytes = readFileSync(file);
      // As many words, in another shape.
      const text = bytes.toString("latin1").replace(/("model\.layers\.1\.mlp\.up_proj\.qweight":\{"dtype":"I32","shape":\[)16,384/, "$132,192");
      writeFileSync(file, Buffer.from(text, "latin1"));
    });
    expect(messages).toEqual(same("/damaged: model.layers.1.mlp.up_proj is no linear [384, 128], as config.json implies: its qweight has shape [32, 192], its qzeros has shape [1, 48], its scales has shape [1, 384], its g_idx has shape [128]"));
  });

  it("a config that contradicts its tensors", async () => {
    expect(await damaged("symmetric/gptq", (folder) => { editConfig(folder, (config) => { (config["quantization_config"] as Record<string, unknown>)["bits"] = 8; }); })).toEqual(same("/damaged/config.json says 8 bits, but its packed linears have 4"));
    expect(await damaged("symmetric/awq", (folder) => { editConfig(folder, (config) => { (config["quantization_config"] as Record<string, unknown>)["group_size"] = 32; }); })).toEqual(same("/damaged/config.json says groups of 32, but its packed linears have groups of 128"));
    expect((await damaged("symmetric/gguf", (folder) => { editConfig(folder, (config) => { config["num_hidden_layers"] = 5; }); }))[0]).toMatch(/^\/damaged: tensor model\.layers\.4\.\S+ is missing; config\.json implies \[/);
  });
});
