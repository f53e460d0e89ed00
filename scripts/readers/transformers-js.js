// Reads ONNX models with transformers.js, and compares with what Shardsmith computed itself.
//
//     transformers-js.js MODULE CASES.json
//
// MODULE is the path of transformers.js. As read.py: CASES.json is a list of {name, folder, ours, text}; one line of JSON a check, {case, check, ok, detail}, and "done" at the end of a case.
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { readOurs } from "./read-ours.js";

const [module, manifest] = process.argv.slice(2);
const { AutoModelForCausalLM, AutoTokenizer, env, pipeline, Tensor } = await import(module);
env.allowRemoteModels = false;

/** Of the largest logit. */
const EXACT = 1e-4;
const NEW_TOKENS = 24;

const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const int64 = (tokens) => new Tensor("int64", BigInt64Array.from(tokens, BigInt), [1, tokens.length]);

async function logitsOf(model, tokens) {
  const { logits } = await model({ input_ids: int64(tokens), attention_mask: int64(tokens.map(() => 1)) });
  return logits.data;
}

function argmax(values) {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

const CHECKS = {
  /** Its tokenizer, from the files that were carried over, makes our tokens. */
  async tokenize({ folder, text, tokens }) {
    const { input_ids: ids } = (await AutoTokenizer.from_pretrained(folder))(text);
    const theirs = Array.from(ids.data, Number);
    if (theirs.join() !== tokens.join()) throw new Error(`${theirs.slice(0, 8)} … instead of ${tokens.slice(0, 8)} …`);
    return `${tokens.length} tokens`;
  },

  /** It finds the files by config.json alone, and computes our logits. */
  async logits({ folder, tokens, logits }) {
    const theirs = await logitsOf(await AutoModelForCausalLM.from_pretrained(folder), tokens);
    if (theirs.length !== logits.length) throw new Error(`${theirs.length} logits instead of ${logits.length}`);
    const largest = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const worst = logits.reduce((most, value, i) => Math.max(most, Math.abs(value - theirs[i])), 0) / largest;
    if (!(worst < EXACT)) throw new Error(`off by ${worst.toExponential(1)} of the largest`);
    return `within ${worst.toExponential(1)} of the largest`;
  },

  /** Token by token, with its cache, it generates what it finds likeliest without one. */
  async generate({ folder, tokens }) {
    const model = await AutoModelForCausalLM.from_pretrained(folder);
    const generated = Array.from((await model.generate({ input_ids: int64(tokens), max_new_tokens: NEW_TOKENS, do_sample: false })).data, Number);
    const likeliest = [...tokens];
    while (likeliest.length < generated.length) likeliest.push(argmax((await logitsOf(model, likeliest)).slice(-model.config.vocab_size)));
    if (generated.length === tokens.length || generated.join() !== likeliest.join()) throw new Error(`${generated.slice(tokens.length)} instead of ${likeliest.slice(tokens.length)}`);
    return `${generated.length - tokens.length} tokens`;
  },

  /** Its pipeline gives a short text beside a long one, padded on the left, what it gives it alone. */
  async batch({ folder, text }) {
    const generate = await pipeline("text-generation", folder);
    const options = { max_new_tokens: NEW_TOKENS, do_sample: false };
    const short = text.slice(0, 20);
    const [[alone], [, [beside]]] = [await generate(short, options), await generate([text, short], options)];
    if (alone.generated_text.length <= short.length || alone.generated_text !== beside.generated_text) throw new Error(`${JSON.stringify(beside.generated_text)} instead of ${JSON.stringify(alone.generated_text)}`);
    return JSON.stringify(alone.generated_text.slice(0, 60));
  },
};

report({ versions: `transformers.js ${env.version}` });
for (const { name, folder, ours, text } of JSON.parse(readFileSync(manifest, "utf8"))) {
  const { tokens, logits } = readOurs(ours);
  env.localModelPath = dirname(folder);
  for (const [check, run] of Object.entries(CHECKS)) {
    try {
      report({ case: name, check: `transformers.js: ${check}`, ok: true, detail: await run({ folder: basename(folder), text, tokens: Array.from(tokens), logits }) });
    } catch (error) {
      report({ case: name, check: `transformers.js: ${check}`, ok: false, detail: error.stack });
    }
  }
  report({ case: name, done: true });
}
