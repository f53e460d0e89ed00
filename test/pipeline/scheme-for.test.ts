import { describe, expect, it } from "vitest";
import { awq } from "#src/formats/awq.js";
import { compressedTensors } from "#src/formats/compressed-tensors.js";
import { gguf } from "#src/formats/gguf.js";
import { gptq } from "#src/formats/gptq.js";
import { mlx } from "#src/formats/mlx.js";
import { commonScheme, schemeFor } from "#src/pipeline/scheme-for.js";

const linear = { inFeatures: 256 };

describe("schemeFor", () => {
  it("asks the format for the dtype of scales, and for offsets where a run is asymmetric", () => {
    expect(schemeFor(gptq, linear, 8, -1, { symmetric: true }, "BF16")).toEqual({ bits: 8, groupSize: 256, symmetric: true, scaleDtype: "F16" });
    expect(schemeFor(mlx, linear, 4, 64, { symmetric: true }, "BF16")).toEqual({ bits: 4, groupSize: 64, symmetric: true, scaleDtype: "BF16" });
    expect(schemeFor(mlx, linear, 4, 64, { symmetric: false }, "BF16")).toEqual({ bits: 4, groupSize: 64, symmetric: false, scaleDtype: "BF16", offsets: "float" });
  });

  it("has super-blocks where K-quants are asked for and fit, and float offsets where they do not", () => {
    const kQuant = { symmetric: true, kQuant: true };
    const q4 = { bits: 4, groupSize: 32, symmetric: false, scaleDtype: "F16" };
    expect(schemeFor(gguf, { inFeatures: 768 }, 4, 32, kQuant, "BF16")).toEqual({ ...q4, offsets: "super-block" });
    expect(schemeFor(gguf, { inFeatures: 576 }, 4, 32, kQuant, "BF16")).toEqual({ ...q4, offsets: "float" });
    expect(schemeFor(gguf, { inFeatures: 768 }, 8, 32, kQuant, "BF16")).toEqual({ ...q4, bits: 8, symmetric: true });
  });
});

describe("6 bits", () => {
  it("lie in signed super-blocks in GGUF, whatever the run has, and as others in mlx", () => {
    const q6 = { bits: 6, groupSize: 16, symmetric: true, scaleDtype: "F16", scales: "super-block" };
    expect(schemeFor(gguf, linear, 6, 32, { symmetric: false }, "BF16")).toEqual(q6);
    expect(schemeFor(gguf, linear, 6, 32, { symmetric: true, kQuant: true }, "BF16")).toEqual(q6);
    expect(schemeFor(mlx, linear, 6, 32, { symmetric: true }, "BF16")).toEqual({ bits: 6, groupSize: 32, symmetric: true, scaleDtype: "BF16" });
  });
});

describe("commonScheme", () => {
  const common = (symmetric: boolean, ...[first, ...others]: readonly [typeof gptq, ...(typeof gptq)[]]) => {
    const schemeIn = (format: typeof gptq) => schemeFor(format, linear, 4, 64, { symmetric }, "BF16");
    return commonScheme([schemeIn(first), ...others.map(schemeIn)]);
  };

  it("is theirs where formats agree", () => {
    expect(common(false, gptq, awq)).toEqual(schemeFor(gptq, linear, 4, 64, { symmetric: false }, "BF16"));
    expect(common(false, mlx)).toEqual(schemeFor(mlx, linear, 4, 64, { symmetric: false }, "BF16"));
  });

  it("wants scales of few enough digits for every dtype", () => {
    expect(common(true, gptq, compressedTensors, mlx)).toEqual({ bits: 4, groupSize: 64, symmetric: true, scaleDtype: "F16", heldBy: { scales: ["F16", "BF16"], products: [] } });
  });

  it("has zero points where one format has no offsets, and products that the others hold", () => {
    expect(common(false, mlx, awq)).toEqual({ bits: 4, groupSize: 64, symmetric: false, scaleDtype: "BF16", heldBy: { scales: ["BF16", "F16"], products: ["BF16"] } });
  });
});
