import { expect, test } from "vitest";
import { byteSize, DTYPE_BITS, isDtype } from "#src/safetensors/dtypes.js";
import type { Dtype } from "#src/safetensors/dtypes.js";

// The `Dtype` enum of the Rust crate at 0.8, sorted by name.
const RUST = "BF16 BOOL C64 F16 F32 F4 F64 F6_E2M3 F6_E3M2 F8_E4M3 F8_E4M3FNUZ F8_E5M2 F8_E5M2FNUZ F8_E8M0 I16 I32 I64 I8 U16 U32 U64 U8";

test("every dtype of the format is known, and no other", () => {
  expect(Object.keys(DTYPE_BITS).sort().join(" ")).toBe(RUST);
  for (const word of ["f16", "F128", "__proto__", "toString", "", null, 16]) expect(isDtype(word)).toBe(false);
});

test("elements take as many bits as their name says", () => {
  for (const dtype of Object.keys(DTYPE_BITS) as Dtype[]) expect(DTYPE_BITS[dtype]).toBe(dtype === "BOOL" ? 8 : Number(/\d+/.exec(dtype)![0]));
});

test.each<[Dtype, number[], number]>([
  ["F16", [3, 5], 30],
  ["F64", [], 8],
  ["I64", [4, 0, 9], 0],
  ["F4", [2, 3], 3],
  ["F6_E2M3", [4], 3],
  ["F4", [3], 1.5],
  ["F6_E3M2", [2, 3], 4.5],
  ["U8", [2 ** 53], Infinity],
  ["F4", [2 ** 52 + 1], Infinity],
  ["BOOL", [2 ** 40, 2 ** 40, 0], Infinity],
])("%s of shape %j takes %d bytes", (dtype, shape, bytes) => {
  expect(byteSize(dtype, shape)).toBe(bytes);
});
