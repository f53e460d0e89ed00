import { describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { detectFormat, formatByName, FORMATS } from "#src/formats/formats.js";

describe("formats", () => {
  it("are found by name", () => {
    expect(FORMATS.map((format) => formatByName(format.name).name)).toEqual(["gptq", "compressed-tensors", "awq", "gguf", "mlx", "onnx"]);
    expect(() => formatByName("bitnet")).toThrow(new InputError('No format is called "bitnet"; there are gptq, compressed-tensors, awq, gguf, mlx, onnx'));
  });

  it("are found by config.json", () => {
    expect(detectFormat({ model_type: "llama" })).toBeUndefined();
    expect(detectFormat({ quantization_config: null })).toBeUndefined();
    expect(detectFormat({ quantization_config: { quant_method: "gptq", bits: 8, group_size: -1 } })).toMatchObject({ format: "gptq", bits: 8, groupSize: -1 });
    expect(() => detectFormat({ quantization_config: [] })).toThrow(new InputError("config.json: quantization_config is not an object"));
    expect(() => detectFormat({ quantization_config: { quant_method: "bitnet" } })).toThrow(
      new InputError('config.json: quantization_config says quant_method "bitnet"; gptq, compressed-tensors, awq, gguf, mlx, onnx can be read'),
    );
  });
});
