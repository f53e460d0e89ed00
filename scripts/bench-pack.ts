// MB/s of packed output that one core makes, for each format and what it holds: npm run bench:pack -- [rounds] [format,...]
import { FORMATS } from "#src/formats/formats.js";
import { schemeFor } from "#src/pipeline/scheme-for.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import { BITS, type QuantScheme } from "#src/quantize/scheme.js";
import { roundAllToDtype } from "#src/safetensors/floats.js";

const rounds = Number(process.argv[2] ?? 15);
const names = process.argv[3]?.split(",") ?? FORMATS.map(({ name }) => name);
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

console.log(`Packing a linear [${String(SHAPE.outFeatures)}, ${String(SHAPE.inFeatures)}], best of ${String(rounds)} rounds, one thread, its own CPU time`);
for (const format of FORMATS.filter(({ name }) => names.includes(name))) {
  for (const bits of BITS) {
    for (const symmetric of [true, false]) {
      const scheme = schemeFor(format, SHAPE, bits, format.groupSizes?.[0] ?? 128, { symmetric }, "BF16");
      if (format.refusesRun({ bits, symmetric, order: "natural" }) !== undefined || format.refusesLinear(SHAPE, scheme) !== undefined) continue;
      const linear = linearOf(scheme);
      const times: number[] = [];
      let bytes = 0;
      for (let round = 0; round < rounds; round += 1) {
        const begun = process.cpuUsage();
        bytes = format.pack("linear", linear).reduce((sum, tensor) => sum + tensor.bytes.length, 0);
        const { user, system } = process.cpuUsage(begun);
        times.push((user + system) / 1e6);
      }
      console.log(`${format.name.padEnd(20)}${String(bits)} bits, ${symmetric ? "symmetric " : "asymmetric"}${String(Math.round(bytes / 1e6 / Math.min(...times))).padStart(7)} MB/s`);
    }
  }
}
