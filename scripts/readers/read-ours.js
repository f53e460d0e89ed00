import { readFileSync } from "node:fs";
import { toFloat32 } from "#src/safetensors/floats.js";
import { parseHeader } from "#src/safetensors/header.js";

/** `logits` [tokens, vocabulary] and `tokens` of a file that our-logits.js wrote. */
export function readOurs(file) {
  const bytes = new Uint8Array(readFileSync(file));
  const { tensors } = parseHeader(bytes, bytes.length, file);
  return Object.fromEntries(["logits", "tokens"].map((name) => {
    const { start, end } = tensors.get(name);
    return [name, toFloat32(bytes.slice(start, end), "F32")];
  }));
}
