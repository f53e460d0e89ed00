// MB/s of packed output that one core makes, for each format and what it holds: npm run bench:pack -- [rounds]
import { FORMATS } from "#src/formats/formats.js";
import { schemeFor } from "#src/pipeline/scheme-for.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { BITS, type QuantScheme } from "#src/quantize/scheme.js";
import { roundAllToDtype } from "#src/safetensors/floats.js";

const rounds = Number(process.argv[2] ?? 7);
/** down_proj of Llama-3.2-1B. */
const SHAPE = { outFeatures: 2048, inFeatures: 8192 };

/** Any codes: packing does not look at what they mean. Powers of two, so that every dtype holds scales and their products. */
function linearOf(scheme: QuantScheme): QuantizedLinear {
  const { outFeatures, inFeatures } = SHAPE;
  const { bits, groupSize, symmetric, scaleDtype, offsets } = scheme;
  const groups = (outFeatures * inFeatures) / groupSize;
  const mask = (1 << bits) - 1;
  const scales = roundAllToDtype(Float32Array.from({ length: groups }, (_, i) => 2 ** -(6 + (i % 5))), scaleDtype);
  return {
    ...SHAPE, scheme, scales,
    codes: Uint8Array.from({ length: outFeatures * inFeatures }, (_, i) => ((i * 2654435761) >>> 13) & mask),
    zeros: Uint8Array.from({ length: groups }, (_, i) => (offsets !== undefined ? 0 : symmetric ? 1 << (bits - 1) : i & mask)),
    ...(offsets && { offsets: scales.map((scale, i) => -scale * (i & mask)) }),
  };
}

console.log(`Packing a linear [${String(SHAPE.outFeatures)}, ${String(SHAPE.inFeatures)}], median of ${String(rounds)} rounds after two that warm up, one thread, its own CPU time`);
for (const format of FORMATS) {
  for (const bits of BITS) {
    for (const symmetric of [true, false]) {
      const scheme = schemeFor(format, SHAPE, bits, format.groupSizes?.[0] ?? 128, { symmetric }, "BF16");
      if (format.refusesRun({ bits, symmetric, order: "natural" }) !== undefined || format.refusesLinear(SHAPE, scheme) !== undefined) continue;
      const linear = linearOf(scheme);
      const times: number[] = [];
      let bytes = 0;
      for (let round = -2; round < rounds; round += 1) {
        const begun = process.cpuUsage();
        bytes = format.pack("linear", linear).reduce((sum, tensor) => sum + tensor.bytes.length, 0);
        const { user, system } = process.cpuUsage(begun);
        if (round >= 0) times.push((user + system) / 1e6);
      }
      const median = times.sort((a, b) => a - b)[times.length >> 1];
      console.log(`${format.name.padEnd(20)}${String(bits)} bits, ${symmetric ? "symmetric " : "asymmetric"}${String(Math.round(bytes / 1e6 / median)).padStart(7)} MB/s`);
    }
  }
}
