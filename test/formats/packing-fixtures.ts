import { readFileSync } from "node:fs";
import type { Dtype } from "#src/safetensors/dtypes.js";
import type { Tensor } from "#src/safetensors/tensor.js";

/** One linear that others packed, with what they packed. */
export interface PackingCase {
  readonly name: string;
  readonly codes?: Tensor;
  readonly zeros?: Tensor;
  /** Instead of codes and zeros, where biases are no multiples of scales. */
  readonly dequantized?: Tensor;
  /** By suffix: qweight, weight_packed … */
  readonly packed: ReadonlyMap<string, Tensor>;
}

/** The cases of test/fixtures/packing, read without our own reader. */
export function packingCases(): PackingCase[] {
  const file = readFileSync(new URL("../fixtures/packing/packing.safetensors", import.meta.url));
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, start)) as Record<string, { dtype: Dtype; shape: number[]; data_offsets: [number, number] }>;
  const cases = new Map<string, Map<string, Tensor>>();
  for (const [key, entry] of Object.entries(header)) {
    const match = /^(.+?)\.(codes|zeros|dequantized|linear\..+)$/.exec(key);
    if (match === null) continue;
    const [, name, part] = match as unknown as [string, string, string];
    const bytes = Uint8Array.from(file.subarray(start + entry.data_offsets[0], start + entry.data_offsets[1]));
    const parts = cases.get(name) ?? new Map<string, Tensor>();
    parts.set(part, { name: key, dtype: entry.dtype, shape: entry.shape, bytes });
    cases.set(name, parts);
  }
  return [...cases].map(([name, parts]) => ({
    name,
    codes: parts.get("codes"),
    zeros: parts.get("zeros"),
    dequantized: parts.get("dequantized"),
    packed: new Map([...parts].filter(([part]) => part.startsWith("linear.")).map(([part, tensor]) => [part.slice("linear.".length), tensor])),
  }));
}
