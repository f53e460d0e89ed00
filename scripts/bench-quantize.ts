// Where the time of a whole run goes, how fast its two heavy parts are beside bare matrix products of the same sizes, and its peak memory:
//   npm run bench:quantize -- MODEL_FOLDER TEXT [more options of `shardsmith quantize`]
// Without further options: 64 sequences of 1,024 tokens, 4 bits, groups of 64. Linux (it reads /proc for the peak).
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import type { Report } from "shardsmith";
import { decoderOf } from "#src/model/decoder-of.js";
import { streamsOf } from "#src/pipeline/options.js";
import { bareGemm } from "./bare-gemm.js";
import { quantize } from "./quality/quantize.js";

const [model, text, ...options] = process.argv.slice(2);
if (model === undefined || text === undefined) {
  console.error("usage: npm run bench:quantize -- MODEL_FOLDER TEXT [options of shardsmith quantize]");
  process.exit(2);
}
const TOKENS = 1024;
const decoder = decoderOf(JSON.parse(readFileSync(join(model, "config.json"), "utf8")), "config.json");
const stages = decoder.stages(0, TOKENS);
const linears = stages.flatMap((stage) => stage.linears);
const attention = stages.flatMap((stage) => stage.graph.nodes).find((node) => node.op === "attention")!;
const hessians = stages.filter((stage) => stage.x !== undefined).map((stage) => stage.linears[0].inFeatures);

/** Floating-point operations for one sequence of 1,024 tokens through all layers. */
const flops = {
  linears: decoder.layers * linears.reduce((sum, { outFeatures, inFeatures }) => sum + 2 * TOKENS * outFeatures * inFeatures, 0),
  // Causal: half of the scores, and half of the sums over values.
  attention: decoder.layers * 2 * TOKENS * TOKENS * attention.heads * attention.headDim,
  // A symmetric matrix: half of it.
  hessians: decoder.layers * hessians.reduce((sum, n) => sum + TOKENS * n * n, 0),
};

/** GFLOP/s of bare products of the same sizes, best of several. */
async function bareSpeed(sizes: readonly (readonly [m: number, n: number, k: number])[], transA: boolean): Promise<number> {
  let seconds = 0;
  let done = 0;
  for (const [m, n, k] of sizes) {
    const run = await bareGemm(m, n, k, { transA, transB: !transA, threads: availableParallelism() });
    let best = Infinity;
    for (let round = 0; round < 12; round += 1) {
      const start = performance.now();
      await run();
      best = Math.min(best, performance.now() - start);
    }
    seconds += best / 1000;
    done += 2 * m * n * k;
  }
  return done / seconds / 1e9;
}

async function measure(): Promise<{ report: Report; peak: number }> {
  const output = mkdtempSync(join(tmpdir(), "bench-"));
  try {
    const defaults = [["--bits", "4"], ["--group-size", "64"], ["--samples", "64"], ["--sequence-length", String(TOKENS)]];
    // An option may be given once only.
    const unasked = defaults.filter(([name]) => !options.includes(name)).flat();
    const { peakBytes: peak } = await quantize(model, output, ["--calibration", text, ...unasked, ...options]);
    return { report: JSON.parse(readFileSync(join(output, "shardsmith.json"), "utf8")) as Report, peak };
  } finally {
    rmSync(output, { recursive: true });
  }
}

const forwardSizes = linears.map(({ outFeatures, inFeatures }) => [TOKENS, outFeatures, inFeatures] as const);
const hessianSizes = hessians.map((n) => [n, n, TOKENS] as const);
const before = [await bareSpeed(forwardSizes, false), await bareSpeed(hessianSizes, true)];
const { report, peak } = await measure();
const after = [await bareSpeed(forwardSizes, false), await bareSpeed(hessianSizes, true)];
const bare = before.map((speed, i) => Math.max(speed, after[i]));

// Retargeting takes the original model through as well, and a second matrix, of which both halves are made.
const retarget = report.run["retarget"] === true;
const sequences = report.calibration!.tokens / TOKENS;
const { parts, seconds } = report;
const share = (part: number): string => `${part.toFixed(1).padStart(7)} s ${((100 * part) / seconds).toFixed(0).padStart(4)} %`;
const speed = (flop: number, part: number, beside: number): string => {
  const own = flop / part / 1e9;
  return `${own.toFixed(0).padStart(5)} GFLOP/s, ${((100 * own) / beside).toFixed(0)} % of a bare product's ${beside.toFixed(0)}`;
};
console.log(`${model}: ${report.calibration!.tokens} tokens, ${report.engine}`);
console.log(`read      ${share(parts.read)}`);
console.log(`forward   ${share(parts.forward)} ${speed(streamsOf({ retarget }) * sequences * (flops.linears + flops.attention), parts.forward, bare[0])}`);
console.log(`hessian   ${share(parts.hessian)} ${speed((retarget ? 3 : 1) * sequences * flops.hessians, parts.hessian, bare[1])}`);
for (const part of ["factor", "sweep", "pack", "write"] as const) console.log(`${part.padEnd(9)} ${share(parts[part])}`);
console.log(`in all    ${seconds.toFixed(1).padStart(7)} s; beside forward and hessian ${((100 * (seconds - parts.forward - parts.hessian)) / seconds).toFixed(0)} %`);
console.log(`peak RSS  ${(peak / 1e6).toFixed(0).padStart(7)} MB`);
