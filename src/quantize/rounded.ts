import type { QuantizedLinear } from "./quantized-linear.js";
import type { QuantScheme } from "./scheme.js";
import { gridUnit, hasSteps } from "./super-block.js";

/** The codes of some rows of a weight matrix, as `QuantizedLinear` has them. */
export type CodedRows = Pick<QuantizedLinear, "codes" | "scales" | "zeros" | "offsets" | "steps">;

/** What a method makes of rows of a weight matrix. */
export interface RoundedRows extends CodedRows {
  /** [rows, in]: exactly what `dequantize` makes of the codes. */
  readonly dequantized: Float32Array<ArrayBuffer>;
}

const PARTS = ["codes", "scales", "zeros", "offsets", "steps", "dequantized"] as const;

export function emptyCodes(rows: number, inFeatures: number, scheme: QuantScheme): CodedRows {
  const groups = inFeatures / scheme.groupSize;
  return {
    codes: new Uint8Array(rows * inFeatures),
    scales: new Float32Array(rows * groups),
    zeros: new Uint8Array(rows * groups),
    ...(scheme.offsets && { offsets: new Float32Array(rows * groups) }),
    ...(hasSteps(scheme) && { steps: new Float32Array((2 * rows * inFeatures) / gridUnit(scheme)) }),
  };
}

export function emptyRows(rows: number, inFeatures: number, scheme: QuantScheme): RoundedRows {
  return { ...emptyCodes(rows, inFeatures, scheme), dequantized: new Float32Array(rows * inFeatures) };
}

/** The codes alone, of what may hold more. */
export function codesOf({ codes, scales, zeros, offsets, steps }: CodedRows): CodedRows {
  return { codes, scales, zeros, ...(offsets && { offsets }), ...(steps && { steps }) };
}

/** Copies rows first … first + count of `from` to row `at` of `to`, all that both have of them. */
export function copyRows(from: Partial<RoundedRows> & CodedRows, first: number, count: number, to: Partial<RoundedRows>, at: number, inFeatures: number): void {
  const rows = from.codes.length / inFeatures;
  for (const part of PARTS) {
    const values = from[part];
    if (values === undefined) continue;
    const width = values.length / rows;
    to[part]?.set(values.subarray(first * width, (first + count) * width), at * width);
  }
}

/** The memory of all its parts. */
export function buffersOf(rows: RoundedRows): ArrayBuffer[] {
  return PARTS.flatMap((part) => rows[part]?.buffer ?? []);
}
