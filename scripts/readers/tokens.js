// Whether llama.cpp tokenizes as we do, with the tokenizer that we say in GGUF's keys.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadTokenizer } from "#src/calibration/tokenizer.js";
import { tokenizerKeys } from "#src/formats/gguf/tokenizer-keys.js";
import { ggufHeader } from "#src/formats/gguf/write-header.js";
import { installLlamaCpp } from "./llama-cpp.js";
import { runReader } from "./run-reader.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const shared = join(root, "../shared");
const fixtures = join(root, "test/fixtures/tokenizers");
const read = (...path) => readFileSync(join(...path), "utf8");
const parsed = (...path) => JSON.parse(read(...path));

/** Of long texts, where a tokenizer is one of many kinds. */
const BEGINNING = 50_000;

/** What llama.cpp is known to do otherwise (see tokenizer-keys.ts): such texts are left out. */
const otherwise = {
  composed: (text) => text !== text.normalize("NFC"),
  spaceBefore: (text) => /^ |<s>|<\|endoftext\|>/.test(text),
  marks: (text) => /\p{M}/u.test(text),
  literalSpaces: (text) => text.includes("▁"),
};

/**
 * Writes files with a tokenizer and no model, of models and of every kind of tokenizer that llama.cpp knows, and compares ids over whole
 * texts. Yields { case, check, ok, detail } for each case whose name holds `wanted`; nothing where llama.cpp has no binaries.
 */
export async function* compareTokens(wanted, scratch) {
  const tokenizers = [...models(), ...kinds()].map((one) => ({ ...one, name: `llama.cpp's tokens, ${one.name}` })).filter(({ name }) => name.includes(wanted));
  if (tokenizers.length === 0) return;
  const module = installLlamaCpp();
  if (module === undefined) {
    console.log("skipped  llama.cpp's tokens: there are no binaries for this machine");
    return;
  }
  const cases = [];
  for (const [i, { name, files, vocabSize, config, unlike = () => false, whole = false }] of tokenizers.entries()) {
    const keys = await tokenizerKeys({ config, files: new Map(Object.keys(files).map((file) => [file, 1])), readFile: (file) => Promise.resolve(new TextEncoder().encode(files[file])) }, vocabSize);
    const [file, texts] = [join(scratch, `tokenizer-${i}.gguf`), join(scratch, `tokenizer-${i}.texts.json`)];
    writeFileSync(file, ggufHeader([["general.architecture", { type: "string", value: "llama" }], ...keys], []).header);
    const tokenizer = loadTokenizer(files["tokenizer.json"], files["tokenizer_config.json"]);
    const encode = (text, addSpecialTokens) => [...tokenizer.encode(text, { addSpecialTokens })];
    writeFileSync(texts, JSON.stringify(textsOf(whole).filter(({ text }) => !unlike(text)).map(({ title, text }) => ({ title, text, ids: encode(text, false), withSpecial: encode(text, true) }))));
    cases.push({ name, file, texts });
  }
  const manifest = join(scratch, "tokens.json");
  writeFileSync(manifest, JSON.stringify(cases));
  yield* runReader(process.execPath, [join(root, "scripts/readers/llama-tokens.js"), module, manifest], cases.map(({ name }) => name));
}

/** The tokenizers of models, on all of every text. */
function models() {
  const folders = [["demo", join(root, "test/fixtures/demo-model")], ["stories260K", join(shared, "models/stories260K")], ["SmolLM2", join(shared, "models/smollm2-135m-instruct")]];
  return folders.filter(([, folder]) => existsSync(folder)).map(([name, folder]) => {
    const files = Object.fromEntries(readdirSync(folder).filter((file) => /\.(json|jinja)$/.test(file)).map((file) => [file, read(folder, file)]));
    const config = JSON.parse(files["config.json"]);
    return { name, files, config, vocabSize: config.vocab_size, whole: true };
  });
}

/** One tokenizer of each further kind. */
function kinds() {
  const kind = (name, json, unlike) => ({ name, files: { "tokenizer.json": JSON.stringify(json) }, config: {}, vocabSize: Object.keys(json.model.vocab).length, unlike });
  const [llama3, gemma] = [parsed(fixtures, "llama3.json"), parsed(fixtures, "gemma.json")];
  const runs = ["▁▁", "\n\n"].map((content) => ({ id: gemma.model.vocab[content], content, special: false, normalized: false, lstrip: false, rstrip: false, single_word: false }));
  return [
    kind("Llama 2", parsed(fixtures, "llama2.json")),
    kind("Mistral", parsed(fixtures, "mistral.json"), otherwise.spaceBefore),
    kind("Gemma", { ...gemma, added_tokens: [...gemma.added_tokens, ...runs] }, otherwise.literalSpaces),
    kind("Qwen2 with NFC", parsed(fixtures, "qwen2.json"), otherwise.composed),
    ...parsed(fixtures, "pre-tokenizers.json").map(({ name, preTokenizer, ignoreMerges }) =>
      kind(`words as ${name}`, { ...llama3, pre_tokenizer: preTokenizer, model: { ...llama3.model, ignore_merges: ignoreMerges } }, ["tekken", "gpt-4o"].includes(name) ? otherwise.marks : undefined)),
  ];
}

function textsOf(whole) {
  const files = [join(root, "calibration-data/multilingual.txt")];
  const folder = join(shared, "text");
  if (existsSync(folder)) files.push(...readdirSync(folder).filter((file) => file.endsWith(".txt")).map((file) => join(folder, file)));
  const odd = parsed(fixtures, "expected.json").texts.map((text, i) => ({ title: `odd text ${i}`, text }));
  return [...odd, ...files.map((file) => ({ title: basename(file), text: whole ? read(file) : read(file).slice(0, BEGINNING) }))];
}
