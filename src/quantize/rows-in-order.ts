import type { QuantizedLinear } from "./quantized-linear.js";

/** The same linear with its rows in another order: row `order[i]` becomes row i. */
export function rowsInOrder(linear: QuantizedLinear, order: Int32Array): QuantizedLinear {
  const { codes, scales, zeros, offsets, steps } = linear;
  return {
    ...linear,
    codes: moved(codes, new Uint8Array(codes.length), order), scales: moved(scales, new Float32Array(scales.length), order), zeros: moved(zeros, new Uint8Array(zeros.length), order),
    ...(offsets && { offsets: moved(offsets, new Float32Array(offsets.length), order) }),
    ...(steps && { steps: moved(steps, new Float32Array(steps.length), order) }),
  };
}

/** Into `out`, values [order.length, …] row by row. */
function moved<A extends Uint8Array<ArrayBuffer> | Float32Array<ArrayBuffer>>(values: A, out: A, order: Int32Array): A {
  const width = values.length / order.length;
  order.forEach((from, to) => {
    out.set(values.subarray(from * width, (from + 1) * width), to * width);
  });
  return out;
}
