import type { Format, ModelFacts } from "../formats/format.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import { rowsInOrder } from "../quantize/rows-in-order.js";
import type { Tensor } from "../safetensors/tensor.js";

/** What turns a quantized linear of this model into the format's tensors, with its rows in the order in which the format's files hold them. */
export function packerOf(format: Format, model: ModelFacts): (name: string, linear: QuantizedLinear) => Tensor[] {
  return (name, linear) => {
    const order = format.container?.rowOrder(name, model);
    return format.pack(name, order === undefined ? linear : rowsInOrder(linear, order));
  };
}
