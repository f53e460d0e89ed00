import { awq } from "./awq.js";
import { compressedTensors } from "./compressed-tensors.js";
import type { Format, PackedFormat } from "./format.js";
import { gguf } from "./gguf.js";
import { gptq } from "./gptq.js";
import { mlx } from "./mlx.js";
import { onnx } from "./onnx.js";
import { InputError } from "../errors.js";

/** Every format that can be written, the default first. */
export const FORMATS: readonly Format[] = [gptq, compressedTensors, awq, gguf, mlx, onnx];

/** The format of that name; `InputError` with the names there are if there is none. */
export function formatByName(name: string): Format {
  const format = FORMATS.find((f) => f.name === name);
  if (format === undefined) throw new InputError(`No format is called ${JSON.stringify(name)}; there are ${FORMATS.map((f) => f.name).join(", ")}`);
  return format;
}

/**
 * How a checkpoint is packed, by its config.json: undefined if it is not quantized. `InputError` if it is quantized in a
 * way that none of the formats reads.
 */
export function detectFormat(config: Readonly<Record<string, unknown>>): PackedFormat | undefined {
  // mlx-lm has not always written both.
  const quantization = config["quantization_config"] ?? config["quantization"];
  if (quantization === undefined || quantization === null) return undefined;
  if (typeof quantization !== "object" || Array.isArray(quantization)) throw new InputError("config.json: quantization_config is not an object");
  const settings = quantization as Record<string, unknown>;
  for (const format of FORMATS) {
    const packed = format.detect(settings);
    if (packed !== undefined) return packed;
  }
  throw new InputError(
    `config.json: quantization_config says quant_method ${JSON.stringify(settings["quant_method"])}; ${FORMATS.map((f) => f.name).join(", ")} can be read`,
  );
}
