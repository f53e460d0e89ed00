// The main job on the small model that comes with the repository: quantizes it, and measures what that cost.
import { readdirSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { evaluate, quantize } from "shardsmith";

const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));
const model = path("test/fixtures/demo-model");
const output = path("demo-4bit");

console.log("$ npx shardsmith quantize test/fixtures/demo-model -o demo-4bit --overwrite\n");
const report = await quantize({
  source: model, output, overwrite: true,
  onEvent(event) {
    if (event.type === "calibration") console.log(`Calibrating on ${event.origin}: ${event.tokens} tokens in ${event.sequences} sequences`);
    if (event.type === "layer") console.log(`layer ${event.layer + 1}/${event.layers} in ${event.seconds.toFixed(1)} s`);
    if (event.type === "warning") console.log(`Warning: ${event.message}`);
  },
});
const quantized = report.linears.filter((linear) => linear.quantized);
console.log(`\n${quantized.length} linears at ${report.bitsPerWeight.toFixed(2)} bits a weight; in demo-4bit:`);
for (const name of readdirSync(output)) console.log(`  ${name.padEnd(28)} ${String(statSync(`${output}/${name}`).size).padStart(9)} bytes`);
console.log(`\nTensors: ${report.sourceBytes} → ${report.bytes} bytes, ${(report.sourceBytes / report.bytes).toFixed(2)} times smaller (the embedding stays as it is)`);

console.log("\n$ npx shardsmith eval demo-4bit --against test/fixtures/demo-model --text test/fixtures/held-out.txt\n");
const { perplexity, tokens, against } = await evaluate({ model: output, against: model, text: path("test/fixtures/held-out.txt") });
console.log(`Perplexity before: ${against.perplexity.toFixed(4)}`);
console.log(`Perplexity after:  ${perplexity.toFixed(4)}   on ${tokens} held-out tokens; a guess among all tokens would have the size of the vocabulary`);
console.log(`KL divergence ${against.klDivergence.toFixed(4)}, same top token ${(100 * against.top1Agreement).toFixed(1)} %`);
console.log("\nFrom here on, `npx shardsmith --help` says what else there is.");
