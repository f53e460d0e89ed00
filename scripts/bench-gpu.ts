// Every kernel on this machine's GPU, beside ONNX Runtime and plain JavaScript: npm run bench:gpu -- [sizes, with commas] [rows]
// Made to be run on a real card, and its table pasted into an issue. Loads per multiply-add are what bounds a kernel that has no memory shared by its threads.
import { arch, cpus, platform } from "node:os";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { adapters, describe, gpuJsOn } from "#src/engine/gpu/adapter.js";
import { gpuSpeed } from "#src/engine/gpu/choose-device.js";
import { createGpuEngine } from "#src/engine/gpu/create-gpu-engine.js";
import { kernelRuns } from "#src/engine/gpu/kernel-runs.js";
import { secondsARun } from "#src/engine/seconds-a-run.js";
import { gigaflops } from "#src/engine/hessian-speed.js";
import { bareGemm, noise } from "./bare-gemm.js";

const [adapter] = await adapters();
const { name, software, largestBuffer } = describe(adapter);
// A GPU that the CPU plays would take minutes for what a card is asked.
const sizes = (process.argv[2] ?? (software ? "64,128,256" : "512,1024,2048,4096")).split(",").map(Number);
const rows = Number(process.argv[3] ?? (software ? 128 : 512));
const SECONDS = software ? 0.5 : 1;
const PLAIN_LARGEST = 512;

console.log(`${name}${software ? ", software" : ""}, largest buffer ${(largestBuffer / 1e9).toFixed(2)} GB; ${cpus()[0]?.model ?? ""}, ${String(cpus().length)} cores; ${platform()}-${arch()}, Node.js ${process.version}`);
console.log(`${String(rows)} rows; a multiply-add is two operations; the Hessian's upper half counts, whatever was computed\n`);

const gpuJs = await gpuJsOn(adapter);
let device: GPUDevice | undefined;

function row(kernel: string, n: number, seconds: number, flop: number, bytes: number, loads: number | undefined): void {
  const cells = [kernel.padEnd(30), String(n).padStart(6), `${(1000 * seconds).toFixed(3)} ms`.padStart(14), (flop === 0 ? "" : gigaflops(flop / seconds)).padStart(16), `${(bytes / seconds / 1e9).toFixed(2)} GB/s`.padStart(14)];
  console.log(`${cells.join("")}${loads === undefined ? "" : `   ${loads.toFixed(2)} loads a multiply-add`}`);
}

for (const n of sizes) {
  for await (const kernel of kernelRuns(gpuJs, { n, rows })) {
    device = kernel.device;
    const seconds = await secondsARun(() => kernel.run(), SECONDS, () => kernel.device.queue.onSubmittedWorkDone());
    row(kernel.name, n, seconds, 2 * kernel.multiplyAdds, kernel.bytes, kernel.loads);
  }
  row("ONNX Runtime's Gemm", n, await secondsARun(await bareGemm(n, n, rows, { transA: true, transB: false, threads: cpus().length }), SECONDS), 2 * rows * n * n, 4 * (2 * rows * n + n * n), undefined);
  if (n <= PLAIN_LARGEST) {
    const [x, sum] = [noise(rows * n), new Float64Array(n * n)];
    row("plain JavaScript", n, await secondsARun(() => Promise.resolve(plainUpdate(sum, x, n)), SECONDS), rows * n * n, 4 * (rows * n + n * n), undefined);
  }
  console.log();
}
device?.destroy();

const engine = await createOnnxEngine();
const whole = await createGpuEngine(engine);
console.log(`Hessians as quantize gathers them, inputs crossing over each time: ${gigaflops(await gpuSpeed(whole))}`);
await whole.close();

/** The upper half of H += XᵀX. */
function plainUpdate(sum: Float64Array, x: Float32Array, n: number): void {
  for (let k = 0; k < rows; k++) {
    for (let i = 0; i < n; i++) {
      const value = x[k * n + i];
      for (let j = i; j < n; j++) sum[i * n + j] += value * x[k * n + j];
    }
  }
}
