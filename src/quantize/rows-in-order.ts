import type { QuantizedLinear } from "./quantized-linear.js";

/** The same linear with its rows in another order: row `order[i]` becomes row i. */
export function rowsInOrder(linear: QuantizedLinear, order: Int32Array): QuantizedLinear {
  const { codes, scales, zeros, inFeatures, scheme } = linear;
  const groups = inFeatures / scheme.groupSize;
  const moved = { codes: new Uint8Array(codes.length), scales: new Float32Array(scales.length), zeros: new Uint8Array(zeros.length) };
  order.forEach((from, to) => {
    moved.codes.set(codes.subarray(from * inFeatures, (from + 1) * inFeatures), to * inFeatures);
    moved.scales.set(scales.subarray(from * groups, (from + 1) * groups), to * groups);
    moved.zeros.set(zeros.subarray(from * groups, (from + 1) * groups), to * groups);
  });
  return { ...linear, ...moved };
}
