// `npm run test:readers`: quantizes small models and has programs that others wrote load the result (scripts/readers).
// Skipped only where there is no Python; fails where a reader could not run. `-- NAME` runs the cases whose names hold NAME.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { makeDoubled } from "./readers/doubled.js";
import { FAMILIES, makeFamily } from "./readers/families.js";
import { familyTable } from "./readers/family-table.js";
import { installLlamaCpp } from "./readers/llama-cpp.js";
import { writeOurLogits } from "./readers/our-logits.js";
import { runReader } from "./readers/run-reader.js";
import { compareTokens } from "./readers/tokens.js";
import { makeUntied } from "./readers/untied.js";

const root = fileURLToPath(new URL("..", import.meta.url));

const TEXT = "One day, a little girl found a box in the garden. She asked: what is in it? Nobody knew, and so she opened it.";
const FAST = ["--no-retarget", "--no-awq", "--refine", "0"];
/** For a model of widths that are no multiples of the usual groups: some linears stay as they are, beside those that are packed. */
const ODD_RUNS = [
  "--format gptq --bits 4 --group-size 32",
  "--format gptq --bits 3 --group-size 32 --order act --no-sym",
  "--format compressed-tensors --bits 4 --group-size 32",
  "--format awq --bits 4 --group-size 32 --no-sym",
  "--format gguf --bits 4 --no-sym",
  "--format mlx --bits 4 --group-size 32",
  "--format onnx --bits 4 --group-size 32",
];
const MODELS = [
  { name: "demo", folder: join(root, "test/fixtures/demo-model") },
  // Not ours to copy: there on the machines where Shardsmith is made.
  { name: "stories260K", folder: join(root, "../shared/models/stories260K"), runs: ODD_RUNS, optional: true },
];
/** For models with an lm_head of their own. */
const LM_HEAD_RUNS = [
  "--format gptq --bits 4 --group-size 32 --lm-head 4",
  "--format gptq --bits 4 --group-size 64 --lm-head 8 --order act --no-sym",
  "--format compressed-tensors --bits 4 --group-size 32 --lm-head 4",
  "--format compressed-tensors --bits 4 --group-size 32 --lm-head 8 --max-shard-size 300KB",
  "--format compressed-tensors --bits 4 --group-size 32 --lm-head 4 --no-sym",
  "--format gguf --bits 4 --lm-head 8 --embeddings 4",
  "--format mlx --bits 4 --group-size 32 --lm-head 8 --no-sym",
  "--format onnx --bits 4 --group-size 32 --lm-head 8 --embeddings 4",
];
/** For a model that is wide enough for super-blocks. */
const K_QUANT_RUNS = [
  "--format gguf --bits 4 --k-quant",
  "--format gguf --bits 4 --k-quant --embeddings 4 --bits-for *.down_proj=8",
];
/** For every scaling of rope, and every kind of bias, that llama.cpp knows. */
const VARIANT_RUNS = ["--format gguf --bits 4"];
/** For every family, as transformers makes it. */
const FAMILY_RUNS = ["gptq", "compressed-tensors", "awq", "gguf", "mlx", "onnx"].map((format) => `--format ${format} --bits 4 --group-size 32`);
const RUNS = [
  "--format gptq --bits 4 --group-size 32",
  "--format gptq --bits 4 --group-size 64 --no-sym --max-shard-size 300KB",
  "--format gptq --bits 4 --group-size 32 --order act",
  "--format gptq --bits 4 --group-size -1",
  "--format gptq --bits 8 --group-size 32",
  "--format gptq --bits 3 --group-size 32",
  "--format gptq --bits 3 --group-size 32 --order act --no-sym",
  "--format gptq --bits 2 --group-size 32 --no-sym",
  "--format compressed-tensors --bits 4 --group-size 32 --max-shard-size 300KB",
  "--format compressed-tensors --bits 4 --group-size -1",
  "--format compressed-tensors --bits 4 --group-size 32 --no-sym",
  "--format compressed-tensors --bits 8 --group-size 64",
  "--format awq --bits 4 --group-size 32 --max-shard-size 300KB",
  "--format awq --bits 4 --group-size 64 --no-sym",
  "--format awq --bits 4 --group-size 32 --no-sym --keep *.1.self_attn.o_proj --keep *.up_proj",
  "--format gguf --bits 4",
  "--format gguf --bits 4 --no-sym",
  "--format gguf --bits 8 --embeddings 8",
  "--format gguf --bits 4 --k-quant --embeddings 8 --bits-for *.0.self_attn.q_proj=8 --keep *.1.self_attn.o_proj",
  "--format mlx --bits 4 --group-size 64 --max-shard-size 300KB",
  "--format mlx --bits 4 --group-size 32 --no-sym",
  "--format mlx --bits 8 --group-size 32 --embeddings 4",
  "--format mlx --bits 3 --group-size 64 --no-sym --embeddings 8",
  "--format mlx --bits 2 --group-size 32 --no-sym",
  "--format mlx --bits 4 --group-size 32 --no-sym --bits-for *.0.self_attn.q_proj=8 --bits-for *.o_proj=3 --keep *.1.self_attn.o_proj",
  "--format onnx --bits 4 --group-size 64",
  "--format onnx --bits 8 --group-size 32 --no-sym",
  "--format onnx --bits 4 --group-size 32 --no-sym --embeddings 8 --bits-for *.0.self_attn.q_proj=8 --keep *.1.self_attn.o_proj",
  "--format gptq --bits 4 --group-size 32 --bits-for *.0.self_attn.q_proj=8 --bits-for *.o_proj=3 --keep *.1.self_attn.o_proj",
  "--format compressed-tensors --bits 4 --group-size 32 --bits-for *.0.self_attn.q_proj=8 --bits-for *.o_proj=8 --keep *.1.self_attn.o_proj",
];

if (!hasPython()) {
  console.log("test:readers is skipped: there is no python3 (3.10 or later) on this machine.");
  process.exit(0);
}
execFileSync("sh", [join(root, "scripts/python-venv.sh")], { stdio: "inherit" });

const scratch = mkdtempSync(join(tmpdir(), "shardsmith-readers-"));
let failed = 0;
try {
  failed = await main();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exitCode = failed > 0 ? 1 : 0;

async function main() {
  const wanted = process.argv[2] ?? "";
  const cases = [];
  let bad = 0;
  const untied = join(scratch, "untied-model");
  makeUntied(MODELS[0].folder, untied);
  const doubled = join(scratch, "doubled-model");
  makeDoubled(MODELS[0].folder, doubled);
  const variants = FAMILIES.map((family) => {
    const folder = join(scratch, `${family.name}-model`);
    makeFamily(family, join(root, "test/fixtures"), folder);
    return { name: family.name, folder, runs: VARIANT_RUNS, calibration: ["--samples", "4", "--sequence-length", "32"], text: TEXT.slice(0, 40), exact: family.exact };
  });
  const families = makeFamilies(join(scratch, "families"));
  const made = [{ name: "untied", folder: untied, runs: LM_HEAD_RUNS }, { name: "doubled", folder: doubled, runs: K_QUANT_RUNS }, ...variants, ...families];
  for (const model of [...MODELS, ...made]) {
    if (model.optional && !existsSync(model.folder)) {
      console.log(`skipped  ${model.name}: ${model.folder} is not there`);
      continue;
    }
    for (const [i, options] of (model.runs ?? RUNS).entries()) {
      const name = `${model.name} ${options}`;
      if (!name.includes(wanted)) continue;
      const folder = join(scratch, `${model.name}-${i}`);
      const ours = join(scratch, `${model.name}-${i}.ours`);
      try {
        const { calibration = ["--samples", "16", "--sequence-length", "256"], text = TEXT } = model;
        // What readers make of it does not depend on how good it is.
        execFileSync(process.execPath, [join(root, "dist/src/cli/main.js"), "quantize", model.folder, "-o", folder, ...FAST, ...calibration, ...options.split(" ")], { stdio: ["ignore", "ignore", "pipe"] });
        await writeOurLogits(folder, text, ours);
        const { notices } = JSON.parse(await readFile(join(folder, "shardsmith.json"), "utf8"));
        cases.push({ name, family: model.family, format: options.split(" ")[1], folder, ours, twin: `${ours}.twin.gguf`, exact: model.exact, text, cpuKernelRefuses: notices.some((notice) => notice.includes("the kernel that GPTQModel chooses on a CPU")) });
      } catch (error) {
        bad += 1;
        console.log(`FAILED   ${name}: ${error.stderr?.toString() || error.stack}`);
      }
    }
  }
  let passed = 0;
  const versions = [];
  const ofFamilies = [];
  const report = (result) => {
    if (result.versions) {
      versions.push(result.versions);
      return;
    }
    const { family, format } = cases.find(({ name }) => name === result.case) ?? {};
    if (family !== undefined) ofFamilies.push({ ...result, family, format });
    if (result.ok) passed += 1;
    else bad += 1;
    console.log(`${result.ok ? "passed " : "FAILED "}  ${result.case}: ${result.check}: ${result.detail}`);
  };
  if ("hub".includes(wanted)) (await readFromHub()).forEach(report);
  const python = join(root, ".venv/bin/python");
  const program = (name) => join(root, "scripts/readers", name);
  const ofGguf = cases.filter(({ name }) => name.includes("--format gguf"));
  for await (const result of readBy([python, program("gguf-file.py")], ofGguf)) report(result);
  const llamaCpp = ofGguf.length > 0 ? installLlamaCpp() : undefined;
  if (llamaCpp !== undefined) for await (const result of readBy([process.execPath, program("llama-logits.js"), llamaCpp], ofGguf)) report(result);
  const ofOnnx = cases.filter(({ name }) => name.includes("--format onnx"));
  // Its optional packages are the binaries of one that it does not start without.
  if (ofOnnx.length > 0) execFileSync("sh", [join(root, "scripts/install-reader.sh"), ".transformers-js", "--include=optional", "@huggingface/transformers@4.3.2"], { stdio: "inherit" });
  const transformersJs = join(root, ".transformers-js/node_modules/@huggingface/transformers/dist/transformers.node.mjs");
  for await (const result of readBy([process.execPath, program("transformers-js.js"), transformersJs], ofOnnx)) report(result);
  for await (const result of readBy([python, program("read.py")], cases.filter((one) => ![...ofGguf, ...ofOnnx].includes(one)))) report(result);
  for await (const result of compareTokens(wanted, scratch)) report(result);
  const table = familyTable(ofFamilies);
  if (table !== undefined) console.log(`\n${table}\n\n${versions.join(", ")}\n`);
  console.log(`${passed} passed, ${bad} failed`);
  return bad;
}

/** Small models of every family, by transformers. */
function makeFamilies(folder) {
  execFileSync(join(root, ".venv/bin/python"), [join(root, "scripts/readers/make-families.py"), MODELS[0].folder, folder], { stdio: ["ignore", "ignore", "pipe"] });
  return readdirSync(folder).map((family) => ({
    name: `family-${family}`, family, folder: join(folder, family), runs: FAMILY_RUNS, calibration: ["--samples", "4", "--sequence-length", "128"],
    // ggml looks its GELU up in a table of half precision.
    ...(family.startsWith("gemma") && { exact: 1e-3 }),
  }));
}

/** Has a program read cases, whose list is the last of its arguments. */
async function* readBy([program, ...args], cases) {
  if (cases.length === 0) return;
  const manifest = join(scratch, "cases.json");
  writeFileSync(manifest, JSON.stringify(cases));
  // GPTQModel starts a thread pool of its own per core.
  const env = { ...process.env, GPTQMODEL_CPU_WORKERS: "2" };
  yield* runReader(program, [...args, manifest], cases.map(({ name }) => name), env);
}

/** Python's client reads from our Hub on loopback and writes to it, and we read from the cache that it leaves (scripts/readers/hub.py). */
async function readFromHub() {
  const [folder, name, token] = [MODELS[0].folder, "org/demo", "hf_readers"];
  const hub = spawn(process.execPath, ["--import", "tsx", join(root, "scripts/loopback-hub/main.ts"), folder, name, token], { stdio: ["pipe", "pipe", "inherit"] });
  try {
    const { value: url } = await createInterface({ input: hub.stdout })[Symbol.asyncIterator]().next();
    const env = { ...process.env, HF_ENDPOINT: url, HF_TOKEN: token, HF_HOME: join(scratch, "hf") };
    // Not execFileSync: the Hub's output would stand still meanwhile.
    const python = spawn(join(root, ".venv/bin/python"), [join(root, "scripts/readers/hub.py"), folder, name], { env, stdio: ["ignore", "pipe", "inherit"] });
    const results = [];
    for await (const line of createInterface({ input: python.stdout })) results.push(JSON.parse(line));
    const [ours, theirs] = [folder, name].map((source) => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, "dist/src/cli/main.js"), "plan", source, "--json"], { env: { ...env, HF_HUB_OFFLINE: "1" }, encoding: "utf8" });
      return status === 0 ? JSON.parse(stdout) : { error: stderr };
    });
    const read = { case: "shardsmith", check: "plan from the cache that huggingface_hub made", ok: theirs.bytes !== undefined && theirs.bytes === ours.bytes, detail: theirs.error ?? `${theirs.bytes} bytes` };
    if (results.length === 0) results.push({ case: "huggingface_hub", check: "run", ok: false, detail: "hub.py did not come to its first check" });
    return [...results, read];
  } finally {
    hub.stdin.end();
    hub.kill();
  }
}

function hasPython() {
  try {
    execFileSync("python3", ["-c", "import sys; sys.exit(sys.version_info < (3, 10))"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
