import type { OnnxElement } from "../../onnx/model.js";
import type { Dtype } from "../../safetensors/dtypes.js";

/** The element types of the dtypes that weights have in ONNX. */
export const ELEMENT_OF: ReadonlyMap<Dtype, OnnxElement> = new Map([["U8", "uint8"], ["F16", "float16"], ["BF16", "bfloat16"], ["F32", "float32"], ["F64", "float64"]]);
