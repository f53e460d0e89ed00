// `npm run test:readers`: quantizes small models and has programs that others wrote load the result (scripts/readers).
// Skipped only where there is no Python; fails where a reader could not run. `-- NAME` runs the cases whose names hold NAME.
import { execFile, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pLimit from "p-limit";
import { makeDoubled } from "./readers/doubled.js";
import { FAMILIES, makeFamily } from "./readers/families.js";
import { familyTable } from "./readers/family-table.js";
import { installLlamaCpp } from "./readers/llama-cpp.js";
import { runReader } from "./readers/run-reader.js";
import { compareTokens } from "./readers/tokens.js";
import { makeUntied } from "./readers/untied.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const run = promisify(execFile);
const python = join(root, ".venv/bin/python");
const program = (name) => join(root, "scripts/readers", name);
/** Programs that run at a time, each in one thread; several of Python's take GBs. */
const LANES = Math.min(4, availableParallelism());

const TEXT = "One day, a little girl found a box in the garden. She asked: what is in it? Nobody knew, and so she opened it.";
// What readers make of it does not depend on how good it is.
const FAST = ["--no-retarget", "--no-awq", "--refine", "0"];
/** A model of the size that people use, where SHARDSMITH_SMOLLM2 says that its weights are. */
const SMOLLM2 = process.env.SHARDSMITH_SMOLLM2 ?? "";
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
const DEMO = { name: "demo", folder: join(root, "test/fixtures/demo-model") };
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
  "--format gguf --bits 4 --k-quant --embeddings 6 --bits-for *.down_proj=8",
];
/** And has an lm_head of its own besides. */
const K_QUANT_LM_HEAD_RUNS = ["--format gguf --bits 4 --k-quant --embeddings 4 --lm-head 6"];
/** For every scaling of rope, and every kind of bias, that llama.cpp knows. */
const VARIANT_RUNS = ["--format gguf --bits 4"];
const EVERY_FORMAT = ["gptq", "compressed-tensors", "awq", "gguf", "mlx", "onnx"];
/** For every family, as transformers makes it. */
const FAMILY_RUNS = EVERY_FORMAT.map((format) => `--format ${format} --bits 4 --group-size 32`);
const SMOLLM2_RUNS = EVERY_FORMAT.map((format) => `--format ${format} --bits 4 --group-size 64 --method rtn --no-search`);
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
  "--format mlx --bits 6 --group-size 32",
  "--format mlx --bits 4 --group-size 32 --no-sym --bits-for *.0.self_attn.q_proj=8 --bits-for *.o_proj=3 --bits-for *.down_proj=6 --keep *.1.self_attn.o_proj",
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
let manifests = 0;
let failed = 0;
try {
  failed = await main();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exitCode = failed > 0 ? 1 : 0;

async function main() {
  const wanted = process.argv[2] ?? "";
  const cases = casesOf(await models()).filter(({ name }) => name.includes(wanted));
  let passed = 0;
  let bad = 0;
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
  const lane = pLimit(LANES);
  const inLane = (reader) => lane(async () => { for await (const result of reader()) report(result); });

  const quantized = [];
  await Promise.all(Array.from({ length: LANES }, (_, i) => cases.filter((_, at) => at % LANES === i)).map(async (share) => {
    for await (const result of readBy([process.execPath, program("quantize-cases.js")], share)) {
      if (!result.ok) report(result);
      else quantized.push({ ...cases.find(({ name }) => name === result.case), cpuKernelRefuses: result.notices.some((notice) => notice.includes("the kernel that GPTQModel chooses on a CPU")) });
    }
  }));

  const of = (...formats) => quantized.filter(({ format }) => formats.includes(format));
  // The longest first.
  await Promise.all([
    ...[of("gptq"), of("awq"), of("compressed-tensors", "mlx")].map((some) => inLane(() => readBy([python, program("read.py")], some))),
    inLane(() => readGguf(of("gguf"))),
    inLane(() => readOnnx(of("onnx"))),
    inLane(() => compareTokens(wanted, scratch)),
    ...("hub".includes(wanted) ? [inLane(readFromHub)] : []),
  ]);
  const place = new Map(cases.map(({ name }, i) => [name, i]));
  const table = familyTable(ofFamilies.sort((a, b) => place.get(a.case) - place.get(b.case)));
  if (table !== undefined) console.log(`\n${table}\n\n${[...new Set(versions)].sort().join(", ")}\n`);
  console.log(`${passed} passed, ${bad} failed`);
  return bad;
}

/** What there is to quantize: { name, folder, runs, and where they differ from the demo model's: calibration, text, exact, family }. */
async function models() {
  const [untied, doubled, both] = ["untied-model", "doubled-model", "doubled-untied-model"].map((name) => join(scratch, name));
  makeUntied(DEMO.folder, untied);
  makeDoubled(DEMO.folder, doubled);
  makeUntied(doubled, both);
  const variants = FAMILIES.map((family) => {
    const folder = join(scratch, `${family.name}-model`);
    makeFamily(family, join(root, "test/fixtures"), folder);
    return { name: family.name, folder, runs: VARIANT_RUNS, calibration: ["--samples", "4", "--sequence-length", "32"], text: TEXT.slice(0, 40), exact: family.exact };
  });
  const there = [
    // Not ours to copy: there on the machines where Shardsmith is made.
    { name: "stories260K", folder: join(root, "../shared/models/stories260K"), runs: ODD_RUNS, how: "it lies in ../shared" },
    { name: "SmolLM2", folder: SMOLLM2, runs: SMOLLM2_RUNS, how: "to run it: .venv/bin/python ../shared/tools/smollm2.py FOLDER, then SHARDSMITH_SMOLLM2=FOLDER npm run test:readers" },
  ].filter(({ name, folder, how }) => {
    if (!existsSync(folder)) console.log(`skipped  ${name}: ${folder || "SHARDSMITH_SMOLLM2"} is not there; ${how}`);
    return existsSync(folder);
  });
  const made = [
    { name: "untied", folder: untied, runs: LM_HEAD_RUNS },
    { name: "doubled", folder: doubled, runs: K_QUANT_RUNS },
    { name: "doubled and untied", folder: both, runs: K_QUANT_LM_HEAD_RUNS },
  ];
  return [{ ...DEMO, runs: RUNS }, ...there, ...made, ...variants, ...(await makeFamilies(join(scratch, "families")))];
}

/** What quantize-cases.js and the readers are told of each run of each model. */
function casesOf(all) {
  return all.flatMap(({ name: model, folder, runs, family, exact, text = TEXT, calibration = ["--samples", "16", "--sequence-length", "256"] }) => runs.map((run, i) => {
    const ours = join(scratch, `${model}-${i}.ours`);
    const [, format] = run.split(" ");
    return { name: `${model} ${run}`, model: folder, options: [...FAST, ...calibration, ...run.split(" ")], family, format, folder: join(scratch, `${model}-${i}`), ours, twin: `${ours}.twin.gguf`, exact, text };
  }));
}

/** Small models of every family, by transformers. */
async function makeFamilies(folder) {
  await run(python, [join(root, "scripts/readers/make-families.py"), DEMO.folder, folder]);
  return readdirSync(folder).map((family) => ({
    name: `family-${family}`, family, folder: join(folder, family), runs: FAMILY_RUNS, calibration: ["--samples", "4", "--sequence-length", "128"],
    // ggml looks its GELU up in a table of half precision.
    ...(family.startsWith("gemma") && { exact: 1e-3 }),
  }));
}

/** gguf first, which makes the models in F32 that llama.cpp reads beside ours. */
async function* readGguf(cases) {
  yield* readBy([python, program("gguf-file.py")], cases);
  const module = cases.length > 0 ? installLlamaCpp() : undefined;
  if (module !== undefined) yield* readBy([process.execPath, program("llama-logits.js"), module], cases);
}

async function* readOnnx(cases) {
  if (cases.length === 0) return;
  // Its optional packages are the binaries of one that it does not start without.
  await run("sh", [join(root, "scripts/install-reader.sh"), ".transformers-js", "--include=optional", "@huggingface/transformers@4.3.2"]);
  yield* readBy([process.execPath, program("transformers-js.js"), join(root, ".transformers-js/node_modules/@huggingface/transformers/dist/transformers.node.mjs")], cases);
}

/** Has a program read cases, whose list is the last of its arguments. */
async function* readBy([command, ...args], cases) {
  if (cases.length === 0) return;
  const manifest = join(scratch, `cases-${(manifests += 1)}.json`);
  writeFileSync(manifest, JSON.stringify(cases));
  // Each has a core; GPTQModel starts a thread pool of its own beside it.
  const env = { ...process.env, OMP_NUM_THREADS: "1", GPTQMODEL_CPU_WORKERS: "1" };
  yield* runReader(command, [...args, manifest], cases.map(({ name }) => name), env);
}

/** Python's client reads from our Hub on loopback and writes to it, and we read from the cache that it leaves (scripts/readers/hub.py). */
async function* readFromHub() {
  const [folder, name, token] = [DEMO.folder, "org/demo", "hf_readers"];
  const hub = spawn(process.execPath, ["--import", "tsx", join(root, "scripts/loopback-hub/main.ts"), folder, name, token], { stdio: ["pipe", "pipe", "inherit"] });
  try {
    const { value: url } = await createInterface({ input: hub.stdout })[Symbol.asyncIterator]().next();
    const env = { ...process.env, HF_ENDPOINT: url, HF_TOKEN: token, HF_HOME: join(scratch, "hf") };
    const reader = spawn(python, [program("hub.py"), folder, name], { env, stdio: ["ignore", "pipe", "inherit"] });
    let checks = 0;
    for await (const line of createInterface({ input: reader.stdout })) {
      checks += 1;
      yield JSON.parse(line);
    }
    if (checks === 0) yield { case: "huggingface_hub", check: "run", ok: false, detail: "hub.py did not come to its first check" };
    const [ours, theirs] = await Promise.all([folder, name].map((source) =>
      run(process.execPath, [join(root, "dist/src/cli/main.js"), "plan", source, "--json"], { env: { ...env, HF_HUB_OFFLINE: "1" } }).then(({ stdout }) => JSON.parse(stdout), ({ stderr }) => ({ error: stderr }))));
    yield { case: "shardsmith", check: "plan from the cache that huggingface_hub made", ok: theirs.bytes !== undefined && theirs.bytes === ours.bytes, detail: theirs.error ?? `${theirs.bytes} bytes` };
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
