// What it costs to quantize from a Hub instead of from a folder: wall time, the time that stood still for reading, peak memory, bytes.
//   npx tsx scripts/bench-hub.ts MODEL_FOLDER [MB/s,…] [options of `shardsmith quantize`]
// The Hub is on loopback, in this process, and throttled: to 300 and 30 MB/s if nothing else is said. Linux (it reads /proc for the peak).
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Report } from "shardsmith";
import { filesOf } from "./loopback-hub/files-of.js";
import { startLoopbackHub } from "./loopback-hub/server.js";
import { quantize } from "./quality/quantize.js";

const [model, ...rest] = process.argv.slice(2);
if (model === undefined) {
  console.error("usage: npx tsx scripts/bench-hub.ts MODEL_FOLDER [MB/s,…] [options of shardsmith quantize]");
  process.exit(2);
}
const rates = rest[0] !== undefined && /^\d+(,\d+)*$/.test(rest[0]) ? rest.shift()!.split(",").map(Number) : [300, 30];
// The text is the same for both, and comes with Shardsmith.
const options = [...(rest.includes("--calibration") ? [] : ["--calibration", "builtin"]), ...rest];
const NAME = "loopback/model";
const isWeights = (file: string): boolean => file.endsWith(".safetensors");

const files = filesOf(model);
const checkpoint = Object.entries(files).reduce((sum, [name, bytes]) => (isWeights(name) ? sum + bytes.length : sum), 0);
const scratch = mkdtempSync(join(tmpdir(), "bench-hub-"));

/** One run, as a row of the table, and a hash of the weights that it wrote. */
async function row(source: string, what: string, sent: () => number): Promise<{ row: string; weights: string }> {
  const output = join(scratch, "out");
  const { seconds, cpuSeconds, peakBytes } = await quantize(source, output, options);
  const { parts } = JSON.parse(readFileSync(join(output, "shardsmith.json"), "utf8")) as Report;
  const hash = createHash("sha256");
  for (const name of readdirSync(output).filter(isWeights).sort()) hash.update(readFileSync(join(output, name)));
  const cells = [seconds.toFixed(1), parts.read.toFixed(1), cpuSeconds.toFixed(1), (peakBytes / 1e6).toFixed(0), (sent() / 1e6).toFixed(1), (sent() / checkpoint).toFixed(3)];
  return { row: [what.padEnd(16), ...cells.map((cell) => cell.padStart(11))].join(""), weights: hash.digest("hex") };
}

try {
  console.log(`${model}: ${(checkpoint / 1e6).toFixed(1)} MB of weights; ${options.join(" ")}`);
  console.log(["".padEnd(16), ...["s", "reading s", "CPU s", "peak MB", "sent MB", "of weights"].map((head) => head.padStart(11))].join(""));
  const plain = await row(model, "folder", () => 0);
  console.log(plain.row);
  for (const rate of rates) {
    const hub = await startLoopbackHub({ repos: [{ type: "model", id: NAME, files }], bytesPerSecond: rate * 1e6 });
    // Not the caches of whoever runs this.
    Object.assign(process.env, { HF_ENDPOINT: hub.url, HF_HOME: join(scratch, "hf"), HF_HUB_CACHE: join(scratch, "hf/hub"), HF_TOKEN: "" });
    try {
      const fromHub = await row(NAME, `Hub, ${rate} MB/s`, () => hub.requests.reduce((sum, { port, sent }) => (port === "cdn" ? sum + sent : sum), 0));
      console.log(fromHub.row);
      if (fromHub.weights !== plain.weights) throw new Error("the weights from the Hub differ from those from the folder");
    } finally {
      await hub.close();
    }
  }
} finally {
  rmSync(scratch, { recursive: true });
}
