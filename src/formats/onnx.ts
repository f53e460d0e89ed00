import type { Format } from "./format.js";
import { refusesOffsets } from "./integer-zeros.js";
import { container } from "./onnx/container.js";
import { blockSize, layout, pack, PACKED_BITS } from "./onnx/matmul-nbits.js";
import { refusesBits } from "./refuses-bits.js";

/**
 * ONNX models of ONNX Runtime's own operators, as transformers.js loads them: the whole decoder as a graph, its linears as MatMulNBits. It knows no
 * family: the graph is made of the decoder's stages.
 */
export const onnx: Format = {
  name: "onnx",
  bits: PACKED_BITS,
  // MatMulNBits wants scales in the type of its input.
  scaleDtype: () => "F32",
  refusesRun({ bits, order }) {
    const refusal = refusesBits(onnx, bits, "transformers.js knows no names for files of others");
    if (refusal !== undefined) return refusal;
    if (order === "act") return "onnx has no act order: ONNX Runtime's fast kernels take groups that lie side by side. Take group-aware";
    return undefined;
  },
  refusesLinear({ inFeatures }, scheme) {
    const { groupSize } = scheme;
    if (inFeatures % groupSize !== 0) return `its ${inFeatures} input channels are not a multiple of the group size ${groupSize}`;
    if (blockSize(groupSize) === undefined) return `MatMulNBits takes blocks of 16 to 256 channels, powers of two, and its groups of ${groupSize} are no whole number of them`;
    return refusesOffsets("onnx", scheme);
  },
  embeddings: true,
  library: "transformers.js",
  programs: ["transformers.js"],
  notes: (_, { bits }) => (bits === 8 ? [{ program: "transformers.js", loads: "so", text: "transformers.js on a CPU takes several times as long with 8 bits as with 4: ONNX Runtime unpacks them anew for each token" }] : []),
  runNotes: () => [],
  layout,
  pack,
  config: () => ({ files: {} }),
  // Its folders have no quantization_config: see onnx/read.ts.
  detect: () => undefined,
  container,
};
