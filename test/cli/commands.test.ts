import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { evaluate, quantize } from "shardsmith";
import { DEMO_MODEL, ONE_CORE, shardsmith } from "./cli.js";

const root = mkdtempSync(join(tmpdir(), "cli-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

// What these tests are about is not how good the result is.
const FEW = [...ONE_CORE, "--samples", "4", "--sequence-length", "64", "--quality", "fast", "--refine", "0", "--no-awq"];
const ROUNDED = [...ONE_CORE, "--method", "rtn"];
const events = (stdout: string): Record<string, unknown>[] => stdout.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Record<string, unknown>);

/** What a run told and made, and a copy of it. */
let told: Record<string, unknown>[];
const [RUN, COPY] = [join(root, "run"), join(root, "copy")];
beforeAll(async () => {
  const { code, stdout } = await shardsmith(["quantize", DEMO_MODEL, "-o", RUN, "--json", ...FEW]);
  expect(code).toBe(0);
  told = events(stdout);
  cpSync(RUN, COPY, { recursive: true });
});

describe("wrong usage ends with 2 and a line that helps", () => {
  it.each([
    [[], "Say what to do: plan, quantize, survey, eval, push, inspect, convert or devices"],
    [["quantize"], "Not enough non-option arguments: got 0, need at least 1"],
    [["quantize", "x", "-o", "y", "--bits", "5"], "Argument: bits, Given: 5, Choices: 2, 3, 4, 6, 8"],
    [["quantize", "x", "-o", "y", "--sparkle"], "Unknown argument: sparkle"],
    [["compress", "x"], "Unknown arguments: compress, x"],
  ])("%j", async (args, message) => {
    const { code, stderr } = await shardsmith(args);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr).not.toMatch(/\n\s+at /);
  });
});

describe("bad input ends with 1, one line and no stack trace", () => {
  const refused = async (args: readonly string[], message: string): Promise<void> => {
    expect(await shardsmith(args)).toEqual({ code: 1, stdout: "", stderr: `${message}\n` });
  };
  const out = join(root, "never");

  it("no such folder", () => refused(["quantize", join(root, "missing"), "-o", out], `${join(root, "missing")}: no such folder`));
  it("an unknown size", () => refused(["quantize", DEMO_MODEL, "-o", out, "--max-shard-size", "5 bananas"], `--max-shard-size is "5 bananas"; give a size, as 5GB, 512MiB or a number of bytes`));
  it("bits for no pattern", () => refused(["quantize", DEMO_MODEL, "-o", out, "--bits-for", "8"], '--bits-for is "8"; give a pattern and bits, as *.down_proj=8'));
  it("bits for a pattern that there are not", () => refused(["quantize", DEMO_MODEL, "-o", out, "--bits-for", "*.down_proj=many"], 'bits for "*.down_proj" is NaN; it may be 2, 3, 4, 6, 8'));
  it.each(["0", "1.5", "-2", "many"])("%s threads", async (given) => {
    const threads = Number(given);
    const message = `threads is ${String(threads)}; it must be a whole number of at least 1`;
    await expect(quantize({ source: DEMO_MODEL, output: out, threads })).rejects.toThrow(message);
    await expect(evaluate({ model: DEMO_MODEL, threads })).rejects.toThrow(message);
  });
  it("threads that are no number, from the command line", async () => {
    await refused(["quantize", DEMO_MODEL, "-o", out, "--threads", "many"], "threads is NaN; it must be a whole number of at least 1");
    await refused(["eval", DEMO_MODEL, "--threads", "0"], "threads is 0; it must be a whole number of at least 1");
  });
  it("nowhere for the output", () => refused(["quantize", "x"], "say where the quantized checkpoint goes: a folder by -o, or a repo on the Hub by --push"));
  it("a way to publish, and no place", () => refused(["quantize", "x", "-o", out, "--create-pr"], "--private, --revision and --create-pr say how to publish: give --push org/name as well"));
  it("no name for the output", () => refused(["quantize", DEMO_MODEL, "-o", ""], "output is empty; name a folder for the quantized checkpoint"));
  it("a number of tokens that is none", () => refused(["eval", DEMO_MODEL, "--max-tokens", "few"], "max tokens is NaN; it must be at least 1"));
  it("the source as output", () => refused(["quantize", DEMO_MODEL, "-o", DEMO_MODEL], `${DEMO_MODEL} is the source itself; choose another output folder`));
  it("sequences longer than the model takes", () =>
    refused(["quantize", DEMO_MODEL, "-o", out, "--sequence-length", "100000"], `sequence length is 100000, but ${DEMO_MODEL} was made for 512 tokens at most (max_position_embeddings)`));
  it("a combination that the format cannot hold", async () => {
    const { code, stderr } = await shardsmith(["quantize", DEMO_MODEL, "-o", out, "--format", "compressed-tensors", "--bits", "3"]);
    expect([code, stderr.split("\n").length]).toEqual([1, 2]);
    expect(stderr).toMatch(/^compressed-tensors .*3/);
  });
  it("an unknown architecture", async () => {
    const model = join(root, "unknown-architecture");
    cpSync(DEMO_MODEL, model, { recursive: true });
    const config = JSON.parse(readFileSync(join(model, "config.json"), "utf8")) as object;
    writeFileSync(join(model, "config.json"), JSON.stringify({ ...config, model_type: "hyena", architectures: ["HyenaForCausalLM"] }));
    await refused(
      ["quantize", model, "-o", out],
      `${model}/config.json: model_type "hyena" is not an architecture that Shardsmith knows; it knows llama, mistral, qwen2, qwen3, gemma3_text; --method rtn works for any`,
    );
    expect(await shardsmith(["quantize", model, "-o", join(root, "rounded"), ...ROUNDED])).toMatchObject({ code: 0 });
    expect(existsSync(join(root, "rounded", "config.json"))).toBe(true);
    writeFileSync(join(model, "config.json"), JSON.stringify({ ...config, model_type: "gpt2", architectures: ["GPT2LMHeadModel"] }));
    await refused(["quantize", model, "-o", out, "--method", "rtn"], `${model}/config.json: gpt2 stores its linears transposed (as Conv1D), which Shardsmith cannot quantize`);
  });
  it("a checkpoint that is quantized already", async () => {
    await refused(["quantize", COPY, "-o", out], `${COPY} is quantized already (config.json has a quantization_config); quantize the original instead`);
  });
  it("a weight that is not a number names its tensor", async () => {
    const model = join(root, "nan");
    cpSync(DEMO_MODEL, model, { recursive: true });
    const { stdout } = await shardsmith(["inspect", model, "--json"]);
    const bytes = readFileSync(join(model, "model.safetensors"));
    const header = 8 + Number(bytes.readBigUInt64LE(0));
    const entries = JSON.parse(bytes.subarray(8, header).toString()) as Record<string, { data_offsets: [number, number] }>;
    expect(JSON.parse(stdout)).toHaveProperty("tensors");
    bytes.writeUInt16LE(0x7fc0, header + entries["model.layers.1.mlp.up_proj.weight"].data_offsets[0]);
    writeFileSync(join(model, "model.safetensors"), bytes);
    const { code, stderr } = await shardsmith(["quantize", model, "-o", join(root, "nan-out"), ...ROUNDED]);
    expect(code).toBe(1);
    expect(stderr.trimEnd().split("\n").at(-1)).toBe("model.layers.1.mlp.up_proj: the weight at row 0, column 0 is NaN");
  });
  it("leaves no output folder behind where the input was refused", () => { expect(existsSync(out)).toBe(false); });
});

it("says what it would do, and does nothing", async () => {
  const output = join(root, "dry");
  const { code, stdout } = await shardsmith(["quantize", DEMO_MODEL, "-o", output, "--dry-run", "--json"]);
  expect(code).toBe(0);
  expect(events(stdout)).toMatchObject([{ type: "dry-run", groupSize: 128, shards: [{ file: "model.safetensors" }] }]);
  expect(existsSync(output)).toBe(false);
});

describe("an option given again", () => {
  const planned = async (args: readonly string[]): Promise<Record<string, unknown>> => {
    const { code, stdout, stderr } = await shardsmith(["quantize", ...args, "-o", join(root, "again"), "--dry-run", "--json"]);
    expect([code, stderr]).toEqual([0, ""]);
    return events(stdout)[0];
  };
  const kept = (told: Record<string, unknown>): string[] =>
    (told["linears"] as { name: string; why?: string }[]).filter(({ why }) => why !== undefined).map(({ name }) => name).filter((name) => name.includes(".0."));

  it.each([
    ["threads", ["--threads", "2", "--threads", "1"]], ["output", ["--output=other"]], ["group-size", ["--group-size", "-1", "--groupSize=-1"]],
    ["sym", ["--sym", "--no-sym"]], ["calibration", ["--calibration", "a", "--bits", "4", "--calibration", "a"]],
  ])("is refused where it has one value: --%s", async (name, args) => {
    expect(await shardsmith(["quantize", DEMO_MODEL, "-o", join(root, "again"), ...args])).toEqual({ code: 2, stdout: "", stderr: `--${name} is given more than once; give it once\nsee: shardsmith --help\n` });
  });

  it("is one more, where it names linears, and takes no more than its own word", async () => {
    expect(kept(await planned(["--keep", "*.down_proj", DEMO_MODEL]))).toEqual(["model.layers.0.mlp.down_proj"]);
    expect(kept(await planned(["--keep", "*.down_proj", "--bits-for", "*.q_proj=8", DEMO_MODEL, "--keep", "*.o_proj"]))).toEqual(["model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj"]);
    expect(await planned(["--bits-for", "*.o_proj=2", "--bits-for", "*.o_proj=8", DEMO_MODEL])).toMatchObject({ linears: { 3: { name: "model.layers.0.self_attn.o_proj", scheme: { bits: 8 } } } });
  });
});

describe("a run", () => {
  const output = RUN;

  it("tells its events in order, one a line", () => {
    const types = told.map(({ type }) => type);
    expect(types.slice(0, 2)).toEqual(["plan", "calibration"]);
    expect(types.at(-1)).toBe("done");
    expect(types.filter((type) => type === "layer")).toHaveLength(4);
    expect(types.filter((type) => type === "linear")).toHaveLength(28);
    const done = told.filter(({ type }) => type === "progress").map(({ done: share }) => share as number);
    expect(done).toEqual([...done].sort((a, b) => a - b));
  });

  it("carries over what belongs to a model, and nothing of its own work", () => {
    const names = readdirSync(output);
    expect(names).toEqual(expect.arrayContaining(["config.json", "quantize_config.json", "generation_config.json", "model.safetensors", "shardsmith.json", "tokenizer.json", "tokenizer_config.json"]));
    expect(names).not.toContain(".shardsmith");
    expect(readFileSync(join(output, "tokenizer.json"))).toEqual(readFileSync(join(DEMO_MODEL, "tokenizer.json")));
    const config = JSON.parse(readFileSync(join(output, "config.json"), "utf8")) as { quantization_config: unknown };
    expect(config.quantization_config).toEqual(JSON.parse(readFileSync(join(output, "quantize_config.json"), "utf8")));
  });

  it("is done at once when asked for again", async () => {
    const { code, stdout } = await shardsmith(["quantize", DEMO_MODEL, "-o", output, "--json", ...FEW]);
    expect(code).toBe(0);
    expect(events(stdout).at(-1)).toMatchObject({ type: "done", already: true });
  });

  it("is refused with other options, and says which differ", async () => {
    const { code, stderr } = await shardsmith(["quantize", DEMO_MODEL, "-o", output, ...FEW, "--bits", "8", "--damp", "0.05"]);
    expect(code).toBe(1);
    expect(stderr).toContain(`${output} holds another run: bits was 4, now 8; damp was 0.01, now 0.05. Repeat its options to go on with it, choose another folder, or use --overwrite`);
  });

  it("is replaced with --overwrite", async () => {
    expect(await shardsmith(["quantize", DEMO_MODEL, "-o", output, ...FEW, "--bits", "8", "--overwrite"])).toMatchObject({ code: 0 });
    const config = JSON.parse(readFileSync(join(output, "config.json"), "utf8")) as { quantization_config: { bits: number } };
    expect(config.quantization_config.bits).toBe(8);
  });
});

it("touches no checkpoint that it did not write", async () => {
  const output = join(root, "someone else's");
  cpSync(DEMO_MODEL, output, { recursive: true });
  const { code, stderr } = await shardsmith(["quantize", DEMO_MODEL, "-o", output, "--method", "rtn"]);
  expect(code).toBe(1);
  expect(stderr).toContain(`${output} holds a checkpoint that Shardsmith did not write; choose another folder, or use --overwrite`);
  expect(readFileSync(join(output, "model.safetensors"))).toEqual(readFileSync(join(DEMO_MODEL, "model.safetensors")));
});

it("stops within a second on Ctrl-C and goes on from there", async () => {
  const output = join(root, "interrupted");
  let asked = 0;
  const stopped = await shardsmith(["quantize", DEMO_MODEL, "-o", output, "--json", ...FEW], (line, kill) => {
    if (asked === 0 && line.includes('"type":"layer","layer":1')) {
      asked = Date.now();
      kill("SIGINT");
    }
  });
  expect(stopped.code).toBe(1);
  expect(stopped.stderr).toBe("Interrupted. What is finished is kept: the same command goes on from there\n");
  expect(existsSync(join(output, "config.json"))).toBe(false);
  const { code, stdout } = await shardsmith(["quantize", DEMO_MODEL, "-o", output, "--json", ...FEW]);
  expect(code).toBe(0);
  expect(events(stdout)).toContainEqual({ type: "resume", layer: 2 });
});

it("names a source that changed while it was read, and one that changed since", async () => {
  const model = join(root, "changing");
  cpSync(DEMO_MODEL, model, { recursive: true });
  const output = join(root, "changed");
  const first = await shardsmith(["quantize", model, "-o", output, "--json", ...FEW], (line) => {
    if (line.includes('"type":"layer","layer":0')) utimesSync(join(model, "model.safetensors"), new Date(), new Date(Date.now() + 5000));
  });
  expect(first.code).toBe(1);
  expect(first.stderr).toBe(`${model}/model.safetensors changed while it was read. Use --overwrite to start anew with what it is now\n`);
  const second = await shardsmith(["quantize", model, "-o", output, ...FEW]);
  expect(second.code).toBe(1);
  expect(second.stderr).toContain(`${output} holds another run: source model.safetensors was `);
});

it.skipIf(process.platform === "win32")("keeps what is finished when the disk is full, and goes on when there is room", async () => {
  const output = join(root, "full");
  const args = ["quantize", DEMO_MODEL, "-o", output, "--json", "--max-shard-size", "300kB", ...FEW];
  // The system's limit on the size of a file, in blocks of 1,024 bytes, stands in for a full disk: shards of 300 kB do not fit.
  const full = await shardsmith(args, undefined, "ulimit -f 250");
  expect(full.code).toBe(1);
  expect(full.stderr).toBe(`cannot write to ${output}: a file would grow beyond what the system allows. What was finished is kept; run the same command again to go on\n`);
  expect(await shardsmith(args)).toMatchObject({ code: 0 });
});

describe("eval and inspect", () => {
  const output = COPY;
  const text = join(root, "text.txt");
  beforeAll(() => { writeFileSync(text, "The ferry leaves at nine. Bring a coat, and something to read.\n".repeat(4)); });

  it("measure against the original", async () => {
    const { code, stdout } = await shardsmith(["eval", output, "--against", DEMO_MODEL, "--text", text, "--json"]);
    expect(code).toBe(0);
    const done = events(stdout).at(-1) as { perplexity: number; against: { perplexity: number; klDivergence: number; top1Agreement: number } };
    expect(done.against.klDivergence).toBeGreaterThan(0);
    expect(done.against.klDivergence).toBeLessThan(0.5);
    expect(done.against.top1Agreement).toBeGreaterThan(0.5);
    expect(Math.abs(Math.log(done.perplexity / done.against.perplexity))).toBeLessThan(0.5);
  });

  it("find no divergence between a model and itself", async () => {
    const { stdout } = await shardsmith(["eval", DEMO_MODEL, "--against", DEMO_MODEL, "--text", text, "--json"]);
    expect((events(stdout).at(-1) as { against: object }).against).toMatchObject({ top1Agreement: 1 });
  });

  it("list tensors and how they are packed", async () => {
    const { code, stdout } = await shardsmith(["inspect", output]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/model\.layers\.0\.self_attn\.q_proj\.qweight +I32 +\[16, 128\] +8\.19 kB +model\.safetensors/);
    expect(stdout).toContain("gptq: 28 linears at 4 bits, groups of 128, symmetric");
    expect(await shardsmith(["inspect", join(output, "model.safetensors"), "--json"])).toMatchObject({ code: 0 });
  });

  it("name what a config says that its packed tensors do not", async () => {
    const broken = join(root, "broken");
    cpSync(output, broken, { recursive: true });
    const config = JSON.parse(readFileSync(join(broken, "config.json"), "utf8")) as { quantization_config: { group_size: number } };
    config.quantization_config.group_size = 32;
    writeFileSync(join(broken, "config.json"), JSON.stringify(config));
    const { code, stderr } = await shardsmith(["eval", broken, "--text", text]);
    expect(code).toBe(1);
    expect(stderr.trimEnd().split("\n").at(-1)).toBe(`${broken}/config.json says groups of 32, but its packed linears have groups of 128`);
  });
});
