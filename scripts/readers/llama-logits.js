// `node llama-logits.js MODULE CASES.json`, in a process of its own: computes with llama.cpp, and compares with our logits.
//
// CASES.json is a list of {name, folder, ours, twin, exact?}, as for gguf-file.py, which wrote the twin; `exact` is within what its logits should be ours.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readOurs } from "./read-ours.js";

const [module, manifest] = process.argv.slice(2);
const { getLlama, LlamaLogLevel } = await import(module);
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });

/** Of the largest logit: in F32 throughout, and where llama.cpp rounds activations to 8 bits for its products with packed weights. */
const EXACT = 1e-5;
const ROUNDED = 0.05;

const report = (line) => console.log(JSON.stringify(line));
report({ versions: `llama.cpp ${llama.llamaCppRelease.release}` });

for (const { name, folder, ours, twin, exact = EXACT } of JSON.parse(readFileSync(manifest, "utf8"))) {
  const { logits, tokens } = readOurs(ours);
  const file = join(folder, readdirSync(folder).find((entry) => entry.endsWith(".gguf")));
  for (const [check, modelPath, tolerance] of [["llama.cpp", file, ROUNDED], ["llama.cpp, the same weights in F32", twin, exact]]) {
    const difference = differenceOf(await logitsOf(modelPath, tokens), logits, tokens.length);
    report({ case: name, check, ok: difference <= tolerance, detail: `logits within ${difference.toExponential(1)}` });
  }
  report({ case: name, done: true });
}
await llama.dispose();

/** Of each token: a map from the ids of the vocabulary to logits. */
async function logitsOf(modelPath, tokens) {
  const model = await llama.loadModel({ modelPath });
  const context = await model.createContext({
    contextSize: tokens.length + 8, threads: 2, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32",
  });
  const steps = await context.getSequence().controlledEvaluate([...tokens].map((token) => [token, { generateNext: { logits: true } }]));
  await model.dispose();
  return steps.map(({ next }) => next.logits);
}

/** The largest difference, of the largest logit. */
function differenceOf(theirs, ours, tokens) {
  const vocabulary = ours.length / tokens;
  let [most, largest] = [0, 0];
  for (const [i, logit] of ours.entries()) {
    const other = theirs[Math.floor(i / vocabulary)].get(i % vocabulary);
    if (other === undefined) throw new Error(`llama.cpp has no logit for token ${i % vocabulary}`);
    most = Math.max(most, Math.abs(other - logit));
    largest = Math.max(largest, Math.abs(logit));
  }
  return most / largest;
}
