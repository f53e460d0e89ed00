// Every kernel on this machine's GPU, beside ONNX Runtime and plain JavaScript: npm run bench:gpu -- [sizes, with commas] [rows]
// Made to be run on a real card, and its table pasted into an issue. Loads per multiply-add are what bounds a kernel that has no memory shared by its threads.
import { arch, cpus, platform } from "node:os";
import { difference, DIFFERENCE_ARGUMENTS } from "#kernels/difference.js";
import { hessian, HESSIAN_ARGUMENTS } from "#kernels/hessian.js";
import { upload, UPLOAD_ARGUMENTS } from "#kernels/upload.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { adapters, describe, gpuJsOn } from "#src/engine/gpu/adapter.js";
import { gpuSpeed } from "#src/engine/gpu/choose-device.js";
import { createGpuEngine } from "#src/engine/gpu/create-gpu-engine.js";
import { DeviceKernel, NOTHING } from "#src/engine/gpu/device.js";
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
const gpu = new gpuJs.GPU({ mode: "webgpu" });
const adds = [0, 1].map(() => new DeviceKernel(gpuJs, gpu, hessian, HESSIAN_ARGUMENTS, { rows }));
const brings = new DeviceKernel(gpuJs, gpu, upload, UPLOAD_ARGUMENTS);
const departs = new DeviceKernel(gpuJs, gpu, difference, DIFFERENCE_ARGUMENTS);

/** Seconds a call, over as many as fit; `settle` waits until they are done. */
async function secondsOf(call: () => Promise<unknown>, settle: () => Promise<unknown> = () => Promise.resolve()): Promise<number> {
  await call();
  await settle();
  const start = performance.now();
  let times = 0;
  do {
    await call();
    // What is queued without end is only timed at the end.
    if (++times % 8 === 0) await settle();
  } while (performance.now() - start < SECONDS * 1000);
  await settle();
  return (performance.now() - start) / 1000 / times;
}

function row(kernel: string, n: number, seconds: number, flop: number, bytes: number, loads: number | undefined): void {
  const cells = [kernel.padEnd(30), String(n).padStart(6), `${(1000 * seconds).toFixed(3)} ms`.padStart(14), (flop === 0 ? "" : gigaflops(flop / seconds)).padStart(16), `${(bytes / seconds / 1e9).toFixed(2)} GB/s`.padStart(14)];
  console.log(`${cells.join("")}${loads === undefined ? "" : `   ${loads.toFixed(2)} loads a multiply-add`}`);
}

const done = (): Promise<unknown> => brings.device.queue.onSubmittedWorkDone();
for (const n of sizes) {
  const x = noise(rows * n);
  const matrix = { data: x, rows, columns: n };
  row("upload", n, await secondsOf(() => brings.run(n, rows, matrix, rows, n), done), 0, 4 * rows * n, undefined);
  const onDevice = await brings.run(n, rows, matrix, rows, n);
  row("difference", n, await secondsOf(() => departs.run(n, rows, onDevice, onDevice), done), rows * n, 12 * rows * n, undefined);
  for (const [kernel, symmetric] of [["hessian", 1], ["hessian, both halves", 0]] as const) {
    let sum = await adds[0].run(n / 2, n / 2, NOTHING, NOTHING, NOTHING, 2 * n, 0, 1);
    let turn = 1;
    const seconds = await secondsOf(async () => { sum = await adds[turn].run(n / 2, n / 2, onDevice, onDevice, sum, 0, 0, symmetric); turn = 1 - turn; }, done);
    const multiplyAdds = (rows * n * n) / (symmetric + 1);
    row(kernel, n, seconds, 2 * multiplyAdds, 4 * (rows * n + (2 * n * n) / (symmetric + 1)), 1);
  }
  row("ONNX Runtime's Gemm", n, await secondsOf(await bareGemm(n, n, rows, { transA: true, transB: false, threads: cpus().length })), 2 * rows * n * n, 4 * (2 * rows * n + n * n), undefined);
  if (n <= PLAIN_LARGEST) {
    const sum = new Float64Array(n * n);
    row("plain JavaScript", n, await secondsOf(() => Promise.resolve(plainUpdate(sum, x, n))), rows * n * n, 4 * (rows * n + n * n), undefined);
  }
  console.log();
}
brings.device.destroy();

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
