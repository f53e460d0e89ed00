// Whether the survey foresees what bits are worth: random ways to spend bits, the one that is chosen and uniform ones, each with the
// divergence that was foretold and the one that is measured on another text; then their rank correlation (Spearman):
//   npx tsx scripts/bench-bits.ts MODEL_FOLDER CALIBRATION_TEXT MEASURED_TEXT [--runs N] [--format gptq] [--target-bits 4.8] [--tokens 8192] [more options of `shardsmith quantize`]
// Without more options, linears are rounded to nearest (--method rtn), as foretold; with --method gptq the foretold values are too high, and their order counts.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { evaluate, survey, type Bits } from "shardsmith";
import { formatByName } from "#src/formats/formats.js";
import { expectedDivergence } from "#src/pipeline/choose-bits.js";

const args = process.argv.slice(2);
const [model, calibration, text] = args.splice(0, 3);
if (model === undefined || calibration === undefined || text === undefined) {
  console.error("usage: npx tsx scripts/bench-bits.ts MODEL_FOLDER CALIBRATION_TEXT MEASURED_TEXT [--runs N] [--format NAME] [--target-bits B] [--tokens N] [options of shardsmith quantize]");
  process.exit(2);
}
const option = (name: string, otherwise: string): string => {
  const at = args.indexOf(name);
  return at < 0 ? otherwise : args.splice(at, 2)[1];
};
const runs = Number(option("--runs", "12"));
const format = option("--format", "gptq");
const targetBits = Number(option("--target-bits", "4.8"));
const maxTokens = Number(option("--tokens", "8192"));
const options = args.length > 0 ? args : ["--method", "rtn"];
const main = fileURLToPath(new URL("../dist/src/cli/main.js", import.meta.url));

const began = performance.now();
const { groups, choice } = await survey({ source: model, calibration, format, targetBits });
console.log(`survey of ${String(groups.length)} groups: ${((performance.now() - began) / 1000).toFixed(1)} s; chosen: ${choice!.bitsPerWeight.toFixed(3)} bits a weight`);
const held = formatByName(format).bits;

let seed = 1;
const random = (): number => (seed = (seed * 48271) % 2147483647) / 2147483647;
type Assignment = readonly (Bits | "keep")[];
const candidates: { readonly name: string; readonly bits: Assignment }[] = [
  ...held.map((bits) => ({ name: `all at ${String(bits)}`, bits: groups.map(() => bits) })),
  { name: `chosen for ${String(targetBits)}`, bits: groups.map(({ linears }) => choice!.wishes.get(linears[0].name)!) },
  ...Array.from({ length: runs }, (_, i) => {
    // Some all low, some all high, most in between.
    const lean = 0.3 + 1.4 * random();
    return { name: `random ${String(i + 1)}`, bits: groups.map(() => held[Math.floor(held.length * random() ** lean) % held.length]) };
  }),
  // The same bits as chosen, dealt out blindly: what choosing is worth.
  ...[1, 2, 3].map((i) => ({ name: `chosen, shuffled ${String(i)}`, bits: shuffled(groups.map(({ linears }) => choice!.wishes.get(linears[0].name)!)) })),
];

function shuffled<T>(values: T[]): T[] {
  for (let i = values.length - 1; i > 0; i -= 1) {
    const j = Math.floor(random() * (i + 1));
    [values[i], values[j]] = [values[j], values[i]];
  }
  return values;
}

const rows: { foretold: number; measured: number }[] = [];
for (const { name, bits } of candidates) {
  const foretold = groups.reduce((sum, group, i) => sum + expectedDivergence(group, bits[i]), 0);
  const output = mkdtempSync(join(tmpdir(), "bench-bits-"));
  const rules = groups.flatMap(({ linears }, i) => linears.flatMap((linear) => (bits[i] === "keep" ? ["--keep", linear.name] : ["--bits-for", `${linear.name}=${String(bits[i])}`])));
  const { status, stderr } = spawnSync(process.execPath, [main, "quantize", model, "-o", output, "--format", format, "--calibration", calibration, ...options, ...rules], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  const { against } = await evaluate({ model: output, against: model, text, maxTokens, sequenceLength: 512 });
  rmSync(output, { recursive: true });
  const measured = against!.klDivergence;
  rows.push({ foretold, measured });
  console.log(`${name.padEnd(22)} foretold ${foretold.toExponential(3)}  measured ${measured.toExponential(3)} ± ${against!.klDivergenceError.toExponential(1)}  ratio ${(measured / foretold).toFixed(2)}`);
}

const ranksOf = (values: readonly number[]): number[] => values.map((value) => values.filter((other) => other < value).length);
const ranks = [ranksOf(rows.map(({ foretold }) => foretold)), ranksOf(rows.map(({ measured }) => measured))];
const n = rows.length;
const squares = ranks[0].reduce((sum, rank, i) => sum + (rank - ranks[1][i]) ** 2, 0);
console.log(`Spearman's rank correlation of ${String(n)}: ${(1 - (6 * squares) / (n * (n * n - 1))).toFixed(3)}`);
