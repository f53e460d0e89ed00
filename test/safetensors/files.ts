import { SafeTensor } from "safetensors";

/** A safetensors file from a header's text or object and the bytes after it; the header is padded to eight bytes, as writers do. */
export function safetensorsFile(header: unknown, data: number | Uint8Array = 0): Uint8Array<ArrayBuffer> {
  const text = typeof header === "string" ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text + " ".repeat((8 - (new TextEncoder().encode(text).length % 8)) % 8));
  const rest = typeof data === "number" ? new Uint8Array(data) : data;
  const file = new Uint8Array(8 + json.length + rest.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  file.set(rest, 8 + json.length);
  return file;
}

/**
 * A safetensors file in the hands of the npm package `safetensors` 0.0.1: a reader that others wrote. It takes `__metadata__` for a
 * tensor and fails, although the format has it, so this one entry is blanked in a copy.
 */
export function openWithNpm(file: Uint8Array): SafeTensor {
  const copy = file.slice();
  const end = 8 + Number(new DataView(copy.buffer).getBigUint64(0, true));
  const header = new TextDecoder().decode(copy.subarray(8, end));
  const blanked = header.replace(/"__metadata__":\{[^}]*\},?/, (entry) => " ".repeat(entry.length));
  copy.set(new TextEncoder().encode(blanked), 8);
  return new SafeTensor(copy);
}
