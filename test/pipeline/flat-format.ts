import type { Format } from "#src/formats/format.js";
import { gptq } from "#src/formats/gptq.js";
import { byteSize } from "#src/safetensors/dtypes.js";

/** The only file with weights. */
export const FILE = "onnx/model_flat.onnx_data";
const ALIGNMENT = 64;

/** Codes and scales as they are, of everything else each byte as a 16-bit number, rows of q_proj from last to first, without the final norm. */
export const flat: Format = {
  ...gptq,
  name: "flat",
  layout: (name, { outFeatures, inFeatures }, { groupSize }) => [
    { name: `${name}.codes`, dtype: "U8", shape: [outFeatures, inFeatures] },
    { name: `${name}.scales`, dtype: "F32", shape: [outFeatures, inFeatures / groupSize] },
  ],
  pack(name, linear) {
    const bytes = [linear.codes, new Uint8Array(linear.scales.buffer)];
    return flat.layout(name, linear, linear.scheme, "natural").map((spec, i) => ({ ...spec, bytes: bytes[i] }));
  },
  config: () => ({ configKeys: { flat: true }, files: {} }),
  container: {
    open: () => Promise.resolve(undefined),
    refusesModel: ({ config }) => (config["model_type"] === "llama" ? undefined : "flat holds llama only"),
    stored: ({ name, dtype, shape }) => (name === "model.norm.weight" ? undefined : {
      spec: { name, dtype: "U16", shape: [byteSize(dtype, shape)] }, unit: byteSize(dtype, shape.slice(-1)),
      convert: (bytes) => new Uint8Array(Uint16Array.from(bytes).buffer),
    }),
    rowOrder: (linear, { tensors }) => (linear.endsWith("q_proj") ? Int32Array.from({ length: tensors.get(`${linear}.weight`)!.shape[0] }, (_, i) => tensors.get(`${linear}.weight`)!.shape[0] - 1 - i) : undefined),
    async layOut({ outputs, ...model }) {
      let end = 0;
      const tensors = outputs.map(({ name, dtype, shape }) => {
        const start = Math.ceil(end / ALIGNMENT) * ALIGNMENT + ALIGNMENT;
        return { name, dtype, shape, start, end: (end = start + byteSize(dtype, shape)) };
      });
      const header = new TextEncoder().encode("flat");
      const about = { tokenizer: (await model.readFile("tokenizer.json")).length, places: tensors.map(({ name, start, end: to }) => [name, start, to]) };
      return { shards: [{ file: FILE, header, tensors, size: end }], files: new Map([["onnx/model_flat.onnx", new TextEncoder().encode(JSON.stringify(about))]]) };
    },
  },
};
