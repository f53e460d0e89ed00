import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Copies a Llama in bf16 with all widths but those of its heads doubled: every channel stands there twice, and weights that read both are halved. To the bit it is
 * the same function, with linears that are wide enough for super-blocks.
 */
export function makeDoubled(from, to) {
  cpSync(from, to, { recursive: true });
  const config = JSON.parse(readFileSync(join(to, "config.json"), "utf8"));
  writeFileSync(join(to, "config.json"), JSON.stringify({ ...config, hidden_size: 2 * config.hidden_size, intermediate_size: 2 * config.intermediate_size }));
  const file = join(to, "model.safetensors");
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = {};
  const parts = [];
  let size = 0;
  const { __metadata__, ...tensors } = JSON.parse(bytes.subarray(8, start).toString());
  for (const [name, { dtype, shape, data_offsets: [first, end] }] of Object.entries(tensors)) {
    const made = doubled(name, shape, new Uint16Array(bytes.buffer.slice(bytes.byteOffset + start + first, bytes.byteOffset + start + end)));
    const data = Buffer.from(made.values.buffer);
    header[name] = { dtype, shape: made.shape, data_offsets: [size, size + data.length] };
    parts.push(data);
    size += data.length;
  }
  const text = Buffer.from(JSON.stringify({ ...(__metadata__ && { __metadata__ }), ...header }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(file, Buffer.concat([length, text, ...parts]));
}

function doubled(name, shape, values) {
  // Rows that go to the heads, and the vocabulary, stay as many as they are; so do the columns that come from the heads.
  const rows = /(gate|up|down|o)_proj/.test(name) ? 2 : 1;
  const columns = name.includes("o_proj") ? 1 : 2;
  // The final norm halves for lm_head, which is the embedding.
  const halved = name === "model.norm.weight" || (columns === 2 && name.includes("_proj"));
  const [height, width] = shape.length === 1 ? [1, shape[0]] : shape;
  const out = new Uint16Array(values.length * rows * columns);
  for (let i = 0; i < out.length; i++) {
    const row = Math.floor(i / (width * columns)) % height;
    out[i] = half(values[row * width + (i % width)], halved);
  }
  return { values: out, shape: shape.length === 1 ? [2 * width] : [rows * height, columns * width] };
}

/** Half of a bf16, whose exponent stands above 7 bits. Weights are no subnormals. */
function half(bits, wanted) {
  return wanted && (bits & 0x7f80) > 0x80 ? bits - 0x80 : bits;
}
