import { expect, it } from "vitest";
import { dequantize } from "#src/quantize/dequantize.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { rowsInOrder } from "#src/quantize/rows-in-order.js";

it.each<[string, Partial<QuantizedLinear>]>([
  ["zero points", { zeros: Uint8Array.of(1, 2, 3, 4, 5, 6) }],
  ["offsets", { zeros: new Uint8Array(6), offsets: Float32Array.of(-1, -2, -3, -4, -5, -6) }],
])("weights move row by row, with %s", (_, grid) => {
  const linear: QuantizedLinear = {
    outFeatures: 3, inFeatures: 4, scheme: { bits: 4, groupSize: 2, symmetric: false, scaleDtype: "F16", ...(grid.offsets && { offsets: "float" }) },
    codes: Uint8Array.from({ length: 12 }, (_, i) => i), scales: Float32Array.of(1, 2, 4, 8, 16, 32), zeros: new Uint8Array(6), ...grid,
  };
  const { data } = dequantize(linear);
  const row = (at: number) => [...data.subarray(4 * at, 4 * at + 4)];
  expect([...dequantize(rowsInOrder(linear, Int32Array.of(2, 0, 1))).data]).toEqual([...row(2), ...row(0), ...row(1)]);
});

it("steps of super-blocks move along", () => {
  const linear: QuantizedLinear = {
    outFeatures: 2, inFeatures: 256, scheme: { bits: 4, groupSize: 32, symmetric: false, scaleDtype: "F16", offsets: "super-block" },
    codes: new Uint8Array(512), scales: new Float32Array(16), zeros: new Uint8Array(16), offsets: new Float32Array(16), steps: Float32Array.of(1, 2, 3, 4),
  };
  expect(rowsInOrder(linear, Int32Array.of(1, 0)).steps).toEqual(Float32Array.of(3, 4, 1, 2));
});
