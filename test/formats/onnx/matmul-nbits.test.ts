import fc from "fast-check";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { onnx } from "#src/formats/onnx.js";
import { blockSize, pack, PACKED_BITS, productNode, unpack } from "#src/formats/onnx/matmul-nbits.js";
import { encodeModel } from "#src/onnx/model.js";
import { dequantize } from "#src/quantize/dequantize.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import type { Tensor as Stored } from "#src/safetensors/tensor.js";
import { legible, quantizedLinears } from "../random-linear.js";

const NAME = "model.layers.0.mlp.up_proj";
const linears = quantizedLinears({ bits: PACKED_BITS, scaleDtypes: ["F32"], channels: 3, groupSizes: [16, 32, 48, 64, 128, 256, 512], actOrder: false });
const bySuffix = (tensors: readonly Stored[]): Map<string, Stored> => new Map(tensors.map((tensor) => [tensor.name.slice(NAME.length + 1), tensor]));

/** What ONNX Runtime makes of a packed linear: its weight [out, in], as the products with unit vectors. */
async function weightByOnnxRuntime(linear: QuantizedLinear): Promise<Float32Array> {
  const { inFeatures, outFeatures, scheme } = linear;
  const tensors = pack(NAME, linear);
  const value = ({ name, dtype, shape }: Stored) => ({ name, type: dtype === "U8" ? ("uint8" as const) : ("float32" as const), shape });
  const model = encodeModel({
    inputs: [{ name: "x", type: "float32", shape: ["rows", inFeatures] }, ...tensors.map(value)],
    outputs: [{ name: "y", type: "float32", shape: ["rows", outFeatures] }],
    nodes: [productNode(NAME, linear, scheme, "x", "y")],
  });
  const session = await InferenceSession.create(model, { intraOpNumThreads: 1, logSeverityLevel: 4 });
  const units = new Float32Array(inFeatures * inFeatures);
  for (let i = 0; i < inFeatures; i++) units[i * inFeatures + i] = 1;
  const { y } = await session.run({
    x: new Tensor("float32", units, [inFeatures, inFeatures]),
    ...Object.fromEntries(tensors.map((tensor) => [tensor.name, tensor.dtype === "U8" ? new Tensor("uint8", tensor.bytes, tensor.shape) : new Tensor("float32", new Float32Array(tensor.bytes.buffer), tensor.shape)])),
  });
  const transposed = y.data as Float32Array;
  return Float32Array.from({ length: transposed.length }, (_, i) => transposed[(i % inFeatures) * outFeatures + Math.floor(i / inFeatures)]);
}

it("is to the bit what ONNX Runtime computes with", async () => {
  await fc.assert(fc.asyncProperty(linears, async (linear) => {
    // A product of sums has no −0.
    expect(await weightByOnnxRuntime(linear)).toEqual(dequantize(linear).data.map((value) => value + 0));
  }), { numRuns: 60 });
});

it("comes back as the same codes, with a scale for each block", () => {
  fc.assert(fc.property(linears, (linear) => {
    const tensors = pack(NAME, linear);
    const back = unpack(NAME, bySuffix(tensors));
    expect(dequantize(back).data).toEqual(dequantize(linear).data);
    expect(legible(back)["codes"]).toBe(legible(linear)["codes"]);
    expect(back.scheme).toEqual({ ...linear.scheme, groupSize: blockSize(linear.scheme.groupSize) });
    expect(tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape }))).toEqual(onnx.layout(NAME, linear, linear.scheme, "natural"));
  }), { numRuns: 100 });
});

it("packs codes low nibble first, along the inputs", () => {
  const codes = Uint8Array.from({ length: 32 }, (_, i) => i % 16);
  const [packed, scales, zeros] = pack(NAME, {
    outFeatures: 1, inFeatures: 32, codes, scales: Float32Array.of(1, 2), zeros: Uint8Array.of(3, 5), scheme: { bits: 4, groupSize: 16, symmetric: false, scaleDtype: "F32" },
  });
  expect(packed).toMatchObject({ dtype: "U8", shape: [1, 2, 8] });
  expect([...packed.bytes.slice(0, 3)]).toEqual([0x10, 0x32, 0x54]);
  expect(scales.shape).toEqual([1, 2]);
  expect({ shape: zeros.shape, bytes: [...zeros.bytes] }).toEqual({ shape: [1, 1], bytes: [0x53] });
});

describe("refuses", () => {
  const scheme = { bits: 4, groupSize: 64, symmetric: true, scaleDtype: "F32" } as const;
  it("runs that it cannot hold", () => {
    const run = { bits: 4, symmetric: true, order: "natural" } as const;
    expect(onnx.refusesRun(run)).toBeUndefined();
    expect(onnx.refusesRun({ ...run, bits: 6 })).toBe("onnx holds 4 or 8 bits, not 6: transformers.js knows no names for files of others");
    expect(onnx.refusesRun({ ...run, order: "act" })).toBe("onnx has no act order: ONNX Runtime's fast kernels take groups that lie side by side. Take group-aware");
  });

  it("linears that it cannot hold", () => {
    const linear = { outFeatures: 3, inFeatures: 192 };
    expect(onnx.refusesLinear(linear, scheme)).toBeUndefined();
    expect(onnx.refusesLinear(linear, { ...scheme, groupSize: 192 })).toBeUndefined();
    expect(onnx.refusesLinear(linear, { ...scheme, groupSize: 128 })).toBe("its 192 input channels are not a multiple of the group size 128");
    expect(onnx.refusesLinear({ outFeatures: 3, inFeatures: 172 }, { ...scheme, groupSize: 172 }))
      .toBe("MatMulNBits takes blocks of 16 to 256 channels, powers of two, and its groups of 172 are no whole number of them");
    expect(onnx.refusesLinear(linear, { ...scheme, symmetric: false, offsets: "float" })).toBe("onnx holds zero points as integers, and its groups start at offsets that are no multiples of their scales");
  });

  it("nothing without a word on what is slow", () => {
    const linear = { outFeatures: 3, inFeatures: 192 };
    expect(onnx.notes(linear, scheme)).toEqual([]);
    expect(onnx.notes(linear, { ...scheme, bits: 8 })).toEqual([{ program: "transformers.js", loads: "so", text: "transformers.js on a CPU takes several times as long with 8 bits as with 4: ONNX Runtime unpacks them anew for each token" }]);
  });

  const good = (): Map<string, Stored> => bySuffix(pack(NAME, { outFeatures: 2, inFeatures: 32, codes: new Uint8Array(64), scales: new Float32Array(4).fill(1), zeros: new Uint8Array(4), scheme: { ...scheme, groupSize: 16, symmetric: false } }));
  it.each<readonly [string, Partial<Stored> | undefined, string]>([
    ["weight_scales", undefined, `${NAME}.weight_scales is missing`],
    ["weight_Q4", undefined, `${NAME}.weight_Q4 is missing`],
    ["weight_Q4", { shape: [2, 16] }, `${NAME}.weight_Q4 has shape [2, 16]; expected [any, any, any]`],
    ["weight_Q4", { shape: [2, 4, 4] }, `${NAME}.weight_Q4 has blocks of 8 channels; MatMulNBits has powers of two from 16 to 256`],
    ["weight_scales", { shape: [2, 3] }, `${NAME}.weight_scales has shape [2, 3]; expected [2, 2]`],
    ["weight_scales", { bytes: new Uint8Array(Float32Array.of(1, NaN, 1, 1).buffer) }, `${NAME}.weight_scales holds NaN at 1`],
    ["weight_zero_points", { dtype: "I32" }, `${NAME}.weight_zero_points is I32; expected U8`],
    ["weight_zero_points", { bytes: new Uint8Array(1) }, `${NAME}.weight_zero_points has 1 bytes; its shape needs 2`],
  ])("a damaged %s: %o", (suffix, change, message) => {
    const tensors = good();
    if (change === undefined) tensors.delete(suffix);
    else tensors.set(suffix, { ...tensors.get(suffix)!, ...change });
    expect(() => unpack(NAME, tensors)).toThrow(message);
  });
});
