// GFLOP/s of the engine beside bare ONNX Runtime Gemms of the same sizes, in the same run: npm run bench:engine -- [threads] [rounds]
import { availableParallelism } from "node:os";
import type { Activations, Engine } from "#src/engine/engine.js";
import type { Graph } from "#src/engine/graph.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { bareGemm, noise } from "./bare-gemm.js";

const threads = Number(process.argv[2] ?? availableParallelism());
const rounds = Number(process.argv[3] ?? 12);
const TOKENS = 1024;

interface Layer { name: string; hidden: number; inner: number; heads: number; kvHeads: number; headDim: number }
const LAYERS: Layer[] = [
  { name: "SmolLM2-135M", hidden: 576, inner: 1536, heads: 9, kvHeads: 3, headDim: 64 },
  { name: "Llama-3.2-1B", hidden: 2048, inner: 8192, heads: 32, kvHeads: 8, headDim: 64 },
];

/** [out, in] of a layer's linears. */
const linears = ({ hidden, inner, heads, kvHeads, headDim }: Layer) => ({
  q: [heads * headDim, hidden], k: [kvHeads * headDim, hidden], v: [kvHeads * headDim, hidden], o: [hidden, heads * headDim],
  gate: [inner, hidden], up: [inner, hidden], down: [hidden, inner],
}) as Record<string, [number, number]>;

function graph(layer: Layer): Graph {
  const { hidden, heads, kvHeads, headDim, inner } = layer;
  return {
    inputs: [{ name: "h", width: hidden }],
    weights: [
      { name: "norm1", shape: [hidden] }, { name: "norm2", shape: [hidden] }, { name: "cos", shape: [TOKENS, headDim / 2] }, { name: "sin", shape: [TOKENS, headDim / 2] },
      ...Object.entries(linears(layer)).map(([name, shape]) => ({ name: `${name}.w`, shape })),
    ],
    nodes: [
      { op: "rmsNorm", out: "x1", x: "h", weight: "norm1", eps: 1e-5 },
      ...["q", "k", "v"].map((name) => ({ op: "linear", out: name, x: "x1", weight: `${name}.w` }) as const),
      { op: "attention", out: "a", q: "q", k: "k", v: "v", cos: "cos", sin: "sin", heads, kvHeads, headDim, scale: headDim ** -0.5 },
      { op: "linear", out: "o", x: "a", weight: "o.w" },
      { op: "add", out: "h2", a: "h", b: "o" },
      { op: "rmsNorm", out: "x2", x: "h2", weight: "norm2", eps: 1e-5 },
      ...["gate", "up"].map((name) => ({ op: "linear", out: name, x: "x2", weight: `${name}.w` }) as const),
      { op: "activation", out: "g", x: "gate", kind: "silu" },
      { op: "mul", out: "m", a: "g", b: "up" },
      { op: "linear", out: "d", x: "m", weight: "down.w" },
      { op: "add", out: "h3", a: "h2", b: "d" },
    ],
    outputs: [{ name: "x1", width: hidden }, { name: "a", width: heads * headDim }, { name: "x2", width: hidden }, { name: "m", width: inner }, { name: "h3", width: hidden }],
  };
}

/** Milliseconds; of the process's own CPU time on one thread, so that other programs do not count. */
function clock(): number {
  const { user, system } = process.cpuUsage();
  return threads === 1 ? (user + system) / 1000 : performance.now();
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = clock();
  await run();
  return clock() - start;
}

/** The best of several rounds in which all are run once, so that what else the machine does hits all alike. */
async function bestOf(runs: ReadonlyMap<string, () => Promise<unknown>>): Promise<ReadonlyMap<string, number>> {
  const best = new Map<string, number>();
  for (let round = 0; round <= rounds; round++) {
    for (const [name, run] of runs) {
      const ms = await timed(run);
      // The first round warms up.
      if (round > 0) best.set(name, Math.min(best.get(name) ?? Infinity, ms));
    }
  }
  return best;
}

function row(name: string, gflop: number, ms: number, bareGflop: number, bareMs: number): void {
  const speed = (gflop / ms) * 1000, bare = (bareGflop / bareMs) * 1000;
  console.log(`${name.padEnd(28)} ${ms.toFixed(1).padStart(8)} ms ${speed.toFixed(0).padStart(6)} GFLOP/s   bare ${bare.toFixed(0).padStart(4)}   ${((100 * speed) / bare).toFixed(0).padStart(4)} %`);
}

async function benchForward(engine: Engine, layer: Layer): Promise<void> {
  const g = graph(layer);
  const prepared = await engine.prepare(g, new Map(g.weights.map(({ name, shape }) => [name, noise(shape.reduce((a, b) => a * b))])));
  let h: Activations = { batch: 1, tokens: TOKENS, width: layer.hidden, data: noise(TOKENS * layer.hidden) };
  const forward = async () => {
    const { inputs, outputs } = await prepared.run({ h });
    h = inputs["h"]!;
    Object.values(outputs).forEach((a) => engine.recycle(a));
  };
  const shapes = Object.values(linears(layer));
  const gemms = await Promise.all(shapes.map(([out, inn]) => bareGemm(TOKENS, out, inn, { threads })));
  const best = await bestOf(new Map([["forward", forward], ...gemms.map((gemm, i) => [`gemm${i}`, gemm] as const)]));
  const linearGflop = shapes.reduce((sum, [out, inn]) => sum + 2 * TOKENS * out * inn, 0) / 1e9;
  // Causal: half of the scores, and half of the sums over values.
  const attentionGflop = (2 * TOKENS * TOKENS * layer.headDim * layer.heads) / 1e9;
  row(`forward ${layer.name}`, linearGflop + attentionGflop, best.get("forward")!, linearGflop, gemms.reduce((sum, _, i) => sum + best.get(`gemm${i}`)!, 0));
  await prepared.release();
}

async function benchHessian(engine: Engine, n: number): Promise<void> {
  const hessian = await engine.hessian(n);
  let x: Activations = { batch: 1, tokens: TOKENS, width: n, data: noise(TOKENS * n) };
  const best = await bestOf(new Map([["hessian", async () => { x = await hessian.add(x); }], ["bare", await bareGemm(n, n, TOKENS, { transA: true, transB: false, threads })]]));
  const half = (TOKENS * n * n) / 1e9;
  row(`Hessian n = ${n}`, half, best.get("hessian")!, 2 * half, best.get("bare")!);
  await hessian.finish();
}

const engine = await createOnnxEngine({ threads });
console.log(`${engine.description}; ${TOKENS} tokens a batch, best of ${rounds}${threads === 1 ? " by CPU time" : ""}`);
for (const layer of LAYERS) await benchForward(engine, layer);
for (const n of [576, 1536, 2048, 8192]) await benchHessian(engine, n);
await engine.close();
