// `node llama-tokens.js MODULE CASES.json`, in a process of its own: tokenizes with llama.cpp, and compares with the ids it is given.
import { readFileSync } from "node:fs";

const [module, manifest] = process.argv.slice(2);
const { getLlama, LlamaLogLevel } = await import(module);
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
for (const { name, file, texts } of JSON.parse(readFileSync(manifest, "utf8"))) {
  const model = await llama.loadModel({ modelPath: file, vocabOnly: true });
  const { bos, eos, shouldPrependBosToken, shouldAppendEosToken } = model.tokens;
  const around = (ids) => [...(shouldPrependBosToken ? [bos] : []), ...ids, ...(shouldAppendEosToken ? [eos] : [])];
  const wrong = [];
  let tokens = 0;
  const cases = JSON.parse(readFileSync(texts, "utf8"));
  for (const { title, text, ids, withSpecial } of cases) {
    const found = model.tokenize(text, true);
    const difference = differenceOf(found, ids) ?? differenceOf(around(found), withSpecial)
      // Without special tokens in it, it is the same whether llama.cpp looks for them or not.
      ?? (text.includes("<") ? undefined : differenceOf(model.tokenize(text, false), ids));
    if (difference !== undefined) wrong.push(`${title}: ${difference}`);
    tokens += ids.length;
  }
  console.log(JSON.stringify({ case: name, check: `${cases.length} texts`, ok: wrong.length === 0, detail: wrong.join("; ") || `${tokens} tokens are ours` }));
  console.log(JSON.stringify({ case: name, done: true }));
  await model.dispose();
}
await llama.dispose();

function differenceOf(found, ids) {
  const at = ids.findIndex((id, i) => found[i] !== id);
  if (at < 0 && found.length === ids.length) return undefined;
  return `${found.length} tokens instead of ${ids.length}, at ${at} ${found.slice(at, at + 5)} instead of ${ids.slice(at, at + 5)}`;
}
