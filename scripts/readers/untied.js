import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Copies a model whose lm_head is its embedding, and gives the copy an lm_head of its own with the same values. */
export function makeUntied(from, to) {
  cpSync(from, to, { recursive: true });
  const config = JSON.parse(readFileSync(join(to, "config.json"), "utf8"));
  writeFileSync(join(to, "config.json"), JSON.stringify({ ...config, tie_word_embeddings: false }));
  const file = join(to, "model.safetensors");
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, start).toString());
  const { data_offsets: [first, end], ...embedding } = header["model.embed_tokens.weight"];
  const size = bytes.length - start;
  const text = Buffer.from(JSON.stringify({ ...header, "lm_head.weight": { ...embedding, data_offsets: [size, size + end - first] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(file, Buffer.concat([length, text, bytes.subarray(start), bytes.subarray(start + first, start + end)]));
}
