import { expect, it, describe } from "vitest";
import { parse } from "yaml";
import { modelCard, type CardInput } from "#src/publish/card.js";
import { commandOf, withoutFolders } from "#src/publish/command.js";
import type { LinearReport, Report } from "#src/report/report.js";

const linear = (name: string, relativeError: number, own: Partial<NonNullable<LinearReport["quantized"]>> = {}, shape = [256, 128]): LinearReport => ({
  name, outFeatures: shape[0], inFeatures: shape[1],
  quantized: { method: "gptq", bits: 4, groupSize: 128, relativeError, scales: { min: 1e-3, median: 2e-3, max: 3e-3 }, seconds: 1, ...own },
});
const report = (changes: Partial<Report> = {}): Report => ({
  shardsmith: "0.1.0", source: "/home/alice/models/tiny", hub: { repo: "org/tiny", commit: "c0ffee", bytesRead: 1 }, engine: "an engine",
  run: {
    shardsmith: "0.1.0", method: "gptq", bits: 4, "group size": 128, format: "gptq", symmetric: true, search: true, "max shard size": 5e9,
    order: "group-aware", refine: 8, awq: true, retarget: false, damp: 0.01, seed: 3, samples: 16, "sequence length": 512,
  },
  calibration: { origin: "the built-in text", documents: 9, sequences: 16, tokens: 8192 },
  linears: [0.001, 0.006, 0.003, 0.002, 0.005, 0.004].map((error, i) => linear(`model.layers.${String(i)}.mlp.down_proj`, error)),
  notices: [], warnings: [], sourceBytes: 2_000_000_000, bytes: 600_000_000, bitsPerWeight: 4.25,
  shards: [{ file: "model.safetensors", size: 600_000_000, sha256: "ab" }], seconds: 5, resumedAtLayer: 0,
  parts: { read: 0, forward: 0, hessian: 0, factor: 0, sweep: 0, pack: 0, write: 0 },
  ...changes,
});
const config = { model_type: "llama", architectures: ["LlamaForCausalLM"] };
const card = (input: Partial<CardInput> = {}): string => modelCard({ report: report(), config, repo: "me/tiny-4bit", ...input });
const frontMatter = (text: string): Record<string, unknown> => parse(/^---\n([\s\S]*?)\n---\n/.exec(text)![1]) as Record<string, unknown>;
const programs = (text: string): string[] => [...text.matchAll(/^### (.*)$/gm)].map(([, name]) => name);
const withRun = (run: Report["run"], linears?: readonly LinearReport[]): Report => report({ run: { ...report().run, ...run }, ...(linears && { linears }) });

it("is this text, for a model from the Hub", async () => {
  const evaluation = {
    text: "/home/alice/wiki.txt", sequenceLength: 512, tokens: 4363, perplexity: 10.5, perplexityError: 0.25,
    against: { perplexity: 10, perplexityError: 0.25, klDivergence: 0.0123, klDivergenceError: 0.001, top1Agreement: 0.934 },
  };
  const warnings = ["model.layers.0.mlp.down_proj: damping raised from 0.01 to 0.02"];
  await expect(card({ report: report({ warnings }), evaluation, sourceCard: "---\nlicense: apache-2.0\nlanguage: [en, de]\n---\n" })).toMatchFileSnapshot("card.golden.md");
});

describe("front matter", () => {
  it("inherits licence, language and task in whatever shape they have", () => {
    const inherited = (yaml: string): Record<string, unknown> => frontMatter(card({ sourceCard: `---\n${yaml}\n---\n# Tiny` }));
    expect(inherited("license: other\nlicense_name: llama3\nlicense_link: LICENSE\nlanguage: en\npipeline_tag: image-text-to-text")).toEqual({
      license: "other", license_name: "llama3", license_link: "LICENSE", language: "en", pipeline_tag: "image-text-to-text", library_name: "transformers",
      base_model: "org/tiny", base_model_relation: "quantized", quantized_by: "shardsmith", tags: ["gptq", "4-bit"],
    });
    expect(inherited("license: [mit, apache-2.0]\nlanguage:\n  - en\n  - no")).toMatchObject({ license: ["mit", "apache-2.0"], language: ["en", "no"] });
    expect(inherited("license: {a: 1}\nlanguage: [1, 2]")).not.toHaveProperty("license");
  });
  it("quotes what YAML 1.1 takes for a boolean", () => {
    expect(card({ sourceCard: "---\nlanguage: no\n---\n" })).toContain('language: "no"\n');
  });
  it.each([["no front matter", "# Tiny"], ["broken YAML", "---\nlicense: [mit\n---\n"], ["a list", "---\n- mit\n---\n"], ["nothing", "---\n---\n"],
    ["aliases without end", `---\na: &a [x]\n${"bcdefghi".split("").map((key, i) => `${key}: &${key} [${Array<string>(9).fill(`*${"abcdefghi"[i]}`).join(", ")}]`).join("\n")}\nlicense: mit\n---\n`],
  ])("inherits nothing of a source card with %s", (_, sourceCard) => {
    expect(frontMatter(card({ sourceCard }))).not.toHaveProperty("license");
  });
  it("says nothing of where a folder came from", () => {
    const { hub, ...rest } = report();
    expect(hub).toBeDefined();
    const text = card({ report: rest });
    expect(frontMatter(text)).not.toHaveProperty("base_model");
    expect(text).toContain("npx shardsmith quantize tiny -o quantized");
    expect(text).not.toContain("alice");
  });
});

describe("a card that stands", () => {
  it("keeps a person's text, keys and comments, and is the same when it is made again", () => {
    const edited = card({ sourceCard: "---\nlicense: mit\n---\n" })
      .replace("license: mit", "license: apache-2.0 # as the lawyers say\nmine: yes")
      .replace("  - gptq\n", "  - gptq\n  - poetry\n")
      .replace("---\n\n<!--", "---\n\nMy own words.\n\n<!--") + "\nAnd the last word.\n";
    const again = card({ existing: edited, sourceCard: "---\nlicense: mit\n---\n" });
    expect(again).toContain("license: apache-2.0 # as the lawyers say\nmine: yes");
    expect(again).toContain("---\n\nMy own words.\n\n<!-- shardsmith: begin");
    expect(again.endsWith("\nAnd the last word.\n")).toBe(true);
    expect(frontMatter(again)["tags"]).toEqual(["poetry", "gptq", "4-bit"]);
    expect(card({ existing: again })).toBe(again);
  });
  it("is added to where none of it is ours", () => {
    const existing = "---\nlicense: mit\n---\n# A title\n\nWords.";
    const text = card({ existing });
    expect(text).toContain("# A title\n\nWords.\n\n<!-- shardsmith: begin");
    expect(text).not.toContain("# tiny-4bit");
    expect(card({ existing: text })).toBe(text);
  });
  it("keeps front matter that cannot be read", () => {
    expect(card({ existing: "---\nlicense: [mit\n---\nWords." }).startsWith("---\nlicense: [mit\n---\nWords.\n\n<!--")).toBe(true);
  });
  it("keeps text between a comment that lost its end and ours", () => {
    const text = card({ existing: "<!-- shardsmith: begin. Shardsmith writes what\nWords." });
    expect(card({ existing: text })).toContain("Words.");
  });
  it("names the library of a format that has one of its own", () => {
    const sourceCard = "---\nlibrary_name: transformers\n---\n";
    expect(frontMatter(card({ sourceCard }))["library_name"]).toBe("transformers");
    expect(frontMatter(card({ sourceCard, report: withRun({ format: "onnx" }, [linear("a", 0.1)]) }))["library_name"]).toBe("transformers.js");
  });
  it("has tags of what it is now", () => {
    const eight = withRun({ bits: 8, format: "compressed-tensors" }, [linear("a", 0.1, { bits: 8 })]);
    expect(frontMatter(card({ existing: card(), report: eight }))["tags"]).toEqual(["compressed-tensors", "8-bit"]);
  });
  it("says the original that a person named", () => {
    const { hub, ...rest } = report();
    expect(hub).toBeDefined();
    expect(card({ report: rest, existing: "---\nbase_model: a/b\nbase_model_relation: quantized\n---\n" })).toContain("[a/b](https://huggingface.co/a/b) with its linear");
  });
});

describe("the programs that load it", () => {
  it.each<[string, Report, string[], string | undefined]>([
    ["gptq in 4 bits", report(), ["transformers", "GPTQModel", "vLLM", "llama.cpp"], undefined],
    ["3 bits", withRun({ bits: 3 }, [linear("a", 0.1, { bits: 3 })]), ["transformers", "GPTQModel"], "- vLLM does not load it: vLLM takes gptq in 4 and 8 bits and symmetric only.\n- llama.cpp does not load it: llama.cpp's converter takes gptq in 2, 4 and 8 bits only."],
    ["several bits in gptq", withRun({}, [linear("a", 0.1), linear("b", 0.1, { bits: 8 })]), ["GPTQModel", "vLLM"], "- transformers does not load it: GPTQModel, vLLM and SGLang read"],
    ["narrow linears", withRun({}, [linear("a", 0.1, { groupSize: 64 }, [64, 192])]), ["transformers", "GPTQModel", "llama.cpp"], "- vLLM may not load it: vLLM's Marlin kernel takes input channels in multiples of 128, and it has 192."],
    ["one scale a row in compressed-tensors", withRun({ format: "compressed-tensors", "group size": -1 }, [linear("a", 0.1, { groupSize: 256 }, [64, 256])]), ["transformers", "vLLM"], "- llama.cpp does not load it: llama.cpp's converter takes compressed-tensors in groups only"],
    ["onnx", withRun({ format: "onnx" }, [linear("a", 0.1)]), ["transformers.js"], undefined],
  ])("are named for %s", (_, made, loading, others) => {
    const text = card({ report: made });
    expect(programs(text)).toEqual(loading);
    if (others === undefined) expect(text).not.toContain("not load it");
    else expect(text).toContain(others);
  });
  it("are none that were tried, for an architecture that is not known", () => {
    const text = card({ config: { model_type: "mystery", architectures: ["MysteryForCausalLM"] } });
    expect(programs(text)).toEqual([]);
    expect(text).toContain("- vLLM may not load it: vLLM may or may not take this architecture: Shardsmith does not know it.");
  });
  it("are told of this very repo, or of a folder", () => {
    expect(card()).toContain("hf download me/tiny-4bit --local-dir tiny-4bit\npython convert_hf_to_gguf.py tiny-4bit --outtype f16 --outfile tiny-4bit.gguf");
    const { report: own, config: same } = { report: report(), config };
    expect(modelCard({ report: own, config: same })).toContain("vllm serve path/to/this/folder");
    expect(card({ report: withRun({ format: "compressed-tensors", symmetric: false }) })).toContain("CompressedTensorsConfig(dequantize=True)");
  });
});

it("claims no figure that was not measured", () => {
  expect(card()).toContain("Neither perplexity nor KL divergence was measured.");
  expect(card()).not.toContain("| perplexity");
  const alone = card({ evaluation: { text: "t", sequenceLength: 8, tokens: 7, perplexity: 2, perplexityError: 0.1 } });
  expect(alone).toContain("| perplexity |  | 2.0000 ± 0.1000 |");
  expect(alone).not.toContain("| KL");
});

it("lets names of the source do nothing in Markdown", () => {
  const text = card({ report: report({ warnings: ["a|b <!-- shardsmith: end --> [x](y)"], linears: [linear("x`|\n<b>", 0.1)] }) });
  expect(text).toContain("- a\\|b \\<!-- shardsmith: end --\\> \\[x\\](y)");
  expect(text).toContain("| `x?? <b>` | 4 |");
  expect(text.match(/^<!-- shardsmith: end -->$/gm)).toHaveLength(1);
});

it("gives a command of every option, which a shell takes", () => {
  const run = { ...report().run, keep: "*.o_proj lm's", "bits for": "*.down_proj=8", "lm_head": 8, symmetric: false };
  expect(commandOf(report({ run, calibration: { origin: "C:\\texts\\my text.txt", documents: 1, sequences: 1, tokens: 1 } }))).toBe(
    `npx shardsmith quantize org/tiny@c0ffee -o quantized \\
  --method gptq --bits 4 --bits-for '*.down_proj=8' --keep '*.o_proj' --keep 'lm'\\''s' --lm-head 8 \\
  --group-size 128 --format gptq --no-sym --order group-aware --search --refine 8 \\
  --awq --no-retarget --damp 0.01 --samples 16 --sequence-length 512 --seed 3 \\
  --calibration 'my text.txt'`);
  expect(commandOf(report({ run: { ...report().run, format: "gguf", "k-quant": true } }))).toContain(" --format gguf --sym --k-quant ");
  expect(["/a/b.txt", "./c/", "allenai/c4:en", "the built-in text", "~/x"].map(withoutFolders)).toEqual(["b.txt", "c", "allenai/c4:en", "the built-in text", "x"]);
});

it("names each text and each data set that it was calibrated on, without folders", () => {
  const parts = [{ origin: "c4", documents: 3, tokens: 50, dataSet: { repo: "allenai/c4", commit: "1588ec" } }, { origin: "/home/alice/mine.txt", documents: 1, tokens: 50 }];
  const made = report({ calibration: { origin: "c4,/home/alice/mine.txt", documents: 4, sequences: 1, tokens: 100, parts } });
  expect(commandOf(made)).toContain(" --calibration c4,mine.txt");
  expect(card({ report: made })).toContain("| calibration | c4,mine.txt: 100 tokens in 1 sequences, seed 3 |\n|  | c4 is data set allenai/c4, commit 1588ec |\n");
  expect(card({ report: made })).not.toContain("alice/mine");
  const { hub, ...rest } = report();
  expect(hub).toBeDefined();
  // The built-in text is what a folder is calibrated on anyway, and a model from the Hub is not.
  expect(commandOf(rest)).not.toContain("--calibration");
  expect(commandOf(report())).toContain(" --calibration builtin");
});
