import type { Activations, Engine } from "../engine/engine.js";
import type { Graph } from "../engine/graph.js";
import type { Decoder, Stage } from "../model/decoder.js";
import { embeddingOf, lmHeadStage } from "../model/head.js";
import { SAMPLE_ROWS } from "../quantize/awq.js";
import { TOKENS_A_BATCH } from "./batches.js";
import { heldTogether } from "./held-together.js";
import { streamsOf, type ResolvedSettings } from "./options.js";
import { sequenceLengthOf, type PreparedRun } from "./prepare-run.js";
import { surveyedBits } from "./survey-stage.js";
import { SURVEYED } from "./survey.js";

/** How fast an engine is: floating-point operations a second in a float32 matrix product, by all its threads together. */
export interface Speed {
  readonly flops: number;
  readonly threads: number;
  /** Of Hessian updates, where a GPU does them. */
  readonly hessian?: number;
}

/** What a run will take, in bytes; each is an estimate but the sizes of files. */
export interface Needs {
  readonly memory: {
    /** Of the process at its peak. */
    readonly peak: number;
    /** Hidden states of that peak; at most `settings.memory`. */
    readonly hidden: number;
  };
  readonly disk: {
    /** The finished checkpoint's shards. */
    readonly checkpoint: number;
    /** Hidden states in files, and what a survey reads of a Hub; gone when the run is over. */
    readonly scratch: number;
  };
}

/** Work in operations, of a speed as `Speed.flops` is. */
export interface Work {
  readonly forward: number;
  readonly hessian: number;
  /** On one thread. */
  readonly factor: number;
  readonly sweep: number;
  /** Before all that, for `targetBits`. */
  readonly survey: number;
}

// What was measured (2 cores, AVX-512, SmolLM2 and matrices up to 2048 wide) and set in proportion to the speed of a large product there.
/** Of a large product's speed, what a layer's products and Hessians reach. */
const PRODUCT_SHARE = 0.85;
const HESSIAN_SHARE = 0.65;
/** An activation that is computed, read or written beside the products. */
const VALUE = 160;
/** For each weight: GPTQ's rounding, choosing its group's scale, one sweep of refine. */
const ROUND = 22e3;
const SEARCH = 7e3;
const SWEEP = 1.6e3;
/** For each weight and channel: its linear's energy and error, its gradient when refine computes it anew, and retargeting. */
const ENERGIES = 2;
const RENEWALS = 2;
const RETARGET = 4;
/** Of a product in float32, how much longer one in float64 takes. */
const DOUBLE = 2.3;
/** For each pair of channels: passes over the Hessian while it is prepared. */
const PREPARE = 3e3;
/** How many roundings of its sampled rows, and their errors, AWQ takes to choose. */
const AWQ_TRIALS = 8;
/** For each logit that a survey compares: its share of two softmaxes and of their divergence. */
const LOGIT = 4e3;
/** Seconds for a stage's batch to go to the engine and back, and for the engine to start. */
const CALL = 1e-3;
const START = 1;

/** Bytes of Node.js and ONNX Runtime themselves, and of each further thread; measured. */
const BASE_BYTES = 200e6;
const THREAD_BYTES = 25e6;
/** Bytes for each pair of channels while a Hessian is prepared: the sum, its mean, float64 twice, the factor; with AWQ a mean and a factor more. */
const HESSIAN_BYTES = 28;
const AWQ_BYTES = 8;
const CROSS_BYTES = 4;
/** Bytes for each weight of a linear while it is quantized: itself, in order, codes, and what refine keeps beside them. */
const SWEEP_BYTES = 30;
/** Memory that JavaScript has let go of but not yet given back: twice as much as it took, up to this. */
const SLACK_BYTES = 512e6;

/** What one layer's stages come to; layers of a model are alike but for the width of their windows. */
interface Chain {
  readonly stages: readonly Stage[];
  /** How many such layers there are. */
  readonly layers: number;
}

function chainsOf(decoder: Decoder, settings: ResolvedSettings, positions: number): Chain[] {
  const chains: Chain[] = [{ stages: decoder.stages(0, positions), layers: decoder.layers }];
  if (settings.lmHead !== undefined) chains.push({ stages: [lmHeadStage(decoder)], layers: 1 });
  return chains;
}

/** Calibration tokens: as many as are asked for; the text may give fewer. */
export function calibrationTokens({ decoder, settings, checkpoint }: PreparedRun): { readonly tokens: number; readonly sequenceLength: number } {
  if (decoder === undefined || settings.method === "rtn") return { tokens: 0, sequenceLength: 0 };
  const sequenceLength = sequenceLengthOf(settings.sequenceLength, decoder.maxPositions, checkpoint.source.label);
  return { tokens: settings.samples * sequenceLength, sequenceLength };
}

/** The work that a run is. */
export function workOf(run: PreparedRun): Work {
  const { decoder, settings, plan } = run;
  const { tokens, sequenceLength } = calibrationTokens(run);
  const rounded = { each: ROUND / 2 + (settings.search ? SEARCH : 0), square: 0 };
  const calibrated = { each: ROUND + (settings.search ? SEARCH : 0) + settings.refine * SWEEP, square: 1 + ENERGIES + 2 * settings.refine + (settings.refine > 0 ? RENEWALS : 0) + (settings.retarget ? RETARGET : 0) };
  const embedding = decoder && embeddingOf(decoder).name;
  let sweep = plan.linears.reduce((sum, { name, scheme, outFeatures, inFeatures }) => {
    const { each, square } = settings.method === "rtn" || name === embedding ? rounded : calibrated;
    return sum + (scheme === undefined ? 0 : outFeatures * inFeatures * (each + square * inFeatures));
  }, 0);
  const survey = settings.targetBits === undefined ? 0 : surveyWork(run);
  if (decoder === undefined || tokens === 0) return { forward: 0, hessian: 0, factor: 0, sweep, survey };

  const quantized = quantizedOf(run);
  let forward = 0;
  let hessian = 0;
  let factor = 0;
  for (const { stages, layers } of chainsOf(decoder, settings, sequenceLength)) {
    for (const { graph, linears } of stages) {
      forward += layers * streamsOf(settings) * tokens * operationsOf(graph, sequenceLength);
      if (!linears.some(({ name }) => quantized.has(name))) continue;
      const n = linears[0].inFeatures;
      hessian += layers * tokens * n ** 2 * (settings.retarget ? 3 : 1);
      factor += layers * ((2 / 3) * n ** 3 * DOUBLE + PREPARE * n ** 2);
      if (settings.awq) sweep += layers * AWQ_TRIALS * SAMPLE_ROWS * n * (ROUND / 2 + SEARCH + 2 * n);
    }
  }
  return { forward, hessian: hessian / HESSIAN_SHARE, factor, sweep, survey };
}

/** The work of `surveyModel`: every group of linears of every layer is a variant, which goes through all layers after it. */
function surveyWork(run: PreparedRun): number {
  const { settings } = run;
  const decoder = run.decoder!;
  const length = Math.min(SURVEYED.sequenceLength, sequenceLengthOf(settings.sequenceLength, decoder.maxPositions, run.checkpoint.source.label));
  const tokens = length * Math.min(SURVEYED.sequences, settings.samples);
  const followed = length * Math.min(SURVEYED.followed, settings.samples);
  const widths = surveyedBits(heldTogether(settings).bits).length;
  const quantized = quantizedOf(run);
  const stages = decoder.stages(0, length);
  const operations = stages.map(({ graph }) => operationsOf(graph, length));
  const layer = operations.reduce((a, b) => a + b, 0);
  const surveyed = stages.flatMap(({ linears }, i) => (linears.some(({ name }) => quantized.has(name)) ? [{ linears, after: operations.slice(i + 1).reduce((a, b) => a + b, 0) }] : []));
  const variants = surveyed.length * decoder.layers;
  let work = decoder.layers * (tokens + (followed * (variants - surveyed.length)) / 2) * layer;
  for (const { linears, after } of surveyed) {
    const n = linears[0].inFeatures;
    const weights = linears.reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, 0);
    // Rounded at each width with its scales searched, and what is left of it, and of itself, measured.
    work += decoder.layers * (followed * after + (tokens * n ** 2) / HESSIAN_SHARE + weights * (widths * (ROUND / 2 + SEARCH) + (widths + 1) * 2 * n));
  }
  const positions = Math.min(SURVEYED.positions, followed);
  return work + variants * positions * decoder.vocabSize * ((2 * decoder.hiddenSize) / PRODUCT_SHARE + LOGIT);
}

function quantizedOf({ plan }: PreparedRun): ReadonlySet<string> {
  return new Set(plan.linears.flatMap(({ name, scheme }) => (scheme === undefined ? [] : [name])));
}

/** For one token. */
function operationsOf(graph: Graph, positions: number): number {
  const shapes = new Map(graph.weights.map(({ name, shape }) => [name, shape]));
  const widths = widthsOf(graph);
  let products = 0;
  for (const node of graph.nodes) {
    if (node.op === "linear") products += 2 * shapes.get(node.weight)!.reduce((a, b) => a * b, 1);
    // Causal: half of the scores, and half of the sums over values.
    if (node.op === "attention") products += 2 * Math.min(positions, node.window ?? positions) * node.heads * node.headDim;
  }
  return products / PRODUCT_SHARE + VALUE * [...widths.values()].reduce((a, b) => a + b, 0);
}

/** The width of every activation of a graph. */
function widthsOf({ inputs, weights, nodes }: Graph): Map<string, number> {
  const shapes = new Map(weights.map(({ name, shape }) => [name, shape]));
  const widths = new Map(inputs.map(({ name, width }) => [name, width]));
  for (const node of nodes) {
    const from = node.op === "attention" ? node.q : node.op === "add" || node.op === "mul" ? node.a : node.x;
    widths.set(node.out, node.op === "linear" ? shapes.get(node.weight)![0] : widths.get(from)!);
  }
  return widths;
}

/** Seconds that a run will take, its reading and writing aside. */
export function secondsOf(run: PreparedRun, { flops, threads, hessian: onGpu }: Speed): Readonly<Record<keyof Work, number>> & { readonly total: number } {
  const { forward, hessian, factor, sweep, survey } = workOf(run);
  const { tokens } = calibrationTokens(run);
  const calls = run.decoder === undefined ? 0 : run.decoder.layers * streamsOf(run.settings) * 9 * Math.ceil(tokens / TOKENS_A_BATCH);
  const parts = { forward: forward / flops + calls * CALL, hessian: onGpu === undefined ? hessian / flops : (hessian * HESSIAN_SHARE) / onGpu, factor: (factor * threads) / flops, sweep: sweep / flops, survey: survey / flops };
  return { ...parts, total: START + parts.forward + parts.hessian + parts.factor + parts.sweep + parts.survey };
}

/** Memory and disk that a run will take. */
export function needsOf(run: PreparedRun, threads: number): Needs {
  const { decoder, settings, plan, checkpoint, bytes } = run;
  const { tokens, sequenceLength } = calibrationTokens(run);
  // Graphs that run side by side, the second in a worker of its own.
  const beside = Math.min(threads, streamsOf(settings));
  const base = BASE_BYTES + THREAD_BYTES * (threads + beside - 1);
  const largest = Math.max(...plan.linears.map(({ scheme, outFeatures, inFeatures }) => (scheme === undefined ? 0 : outFeatures * inFeatures)));
  const layer = Math.max(...plan.layers.map((names) => names.reduce((sum, name) => sum + checkpoint.tensors.get(name)!.end - checkpoint.tensors.get(name)!.start, 0)));
  const kept = checkpoint.source.hub !== undefined && settings.targetBits !== undefined ? run.sourceBytes : 0;
  if (decoder === undefined || tokens === 0) return { memory: { peak: base + slack(layer + SWEEP_BYTES * largest), hidden: 0 }, disk: { checkpoint: bytes, scratch: kept } };

  const streams = streamsOf(settings);
  const quantized = quantizedOf(run);
  const perPair = HESSIAN_BYTES + (settings.awq ? AWQ_BYTES : 0) + (settings.retarget ? CROSS_BYTES : 0);
  const batch = Math.max(sequenceLength, TOKENS_A_BATCH);
  let hidden = 0;
  let transient = 0;
  for (const { stages } of chainsOf(decoder, settings, sequenceLength)) {
    for (const { graph, carry, linears } of stages) {
      const widths = widthsOf(graph);
      const width = (names: readonly string[]): number => names.reduce((sum, name) => sum + widths.get(name)!, 0);
      // While a stage runs, what it takes shrinks as what it leaves grows; batches of both are in memory.
      hidden = Math.max(hidden, 4 * streams * tokens * Math.max(width(graph.inputs.map(({ name }) => name)), width(carry)));
      const weights = 4 * streams * graph.weights.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
      const activations = (1 + beside) * 4 * batch * [...widths.values()].reduce((a, b) => a + b, 0);
      const own = linears.filter(({ name }) => quantized.has(name));
      const n = own[0]?.inFeatures ?? 0;
      const inLinears = own.map(({ outFeatures, inFeatures }) => outFeatures * inFeatures);
      // The graph's weights and activations are given back before the Hessian is factored; what the next stage takes of its linears stays.
      const factoring = perPair * n ** 2 + 8 * inLinears.reduce((a, b) => a + b, 0) + SWEEP_BYTES * Math.max(0, ...inLinears);
      transient = Math.max(transient, weights + activations + 4 * n ** 2, activations / 2 + factoring);
    }
  }
  const inMemory = Math.min(hidden, settings.memory);
  return {
    memory: { peak: base + slack(transient + layer) + inMemory, hidden: inMemory },
    // Those before and after the layer that is under way are in files whatever happens.
    disk: { checkpoint: bytes, scratch: 2 * 4 * streams * decoder.hiddenSize * tokens + (hidden - inMemory) + kept },
  };
}

function slack(bytes: number): number {
  return bytes + Math.min(2 * bytes, SLACK_BYTES);
}

/** Tokens, and widths at most, of the product by which speed is measured: large enough to be fast, small enough to be repeated. */
const MEASURED_TOKENS = 1024;
const MEASURED_WIDTH = 2048;

/**
 * Measures an engine by a product of the model's own shape.
 * @param shape a linear of the model
 * @param seconds how long to go on; at least two products are timed
 */
export async function measuredSpeed(engine: Engine, threads: number, shape: { readonly outFeatures: number; readonly inFeatures: number }, seconds = 0.25): Promise<Speed> {
  const width = Math.min(shape.inFeatures, MEASURED_WIDTH);
  const rows = Math.min(shape.outFeatures, MEASURED_WIDTH);
  const graph: Graph = {
    inputs: [{ name: "x", width }], weights: [{ name: "w", shape: [rows, width] }],
    nodes: [{ op: "linear", out: "y", x: "x", weight: "w" }], outputs: [{ name: "y", width: rows }],
  };
  const noise = (length: number): Float32Array<ArrayBuffer> => Float32Array.from({ length }, (_, i) => Math.sin(i));
  const product = await engine.prepare(graph, new Map([["w", noise(rows * width)]]));
  let x: Activations = { batch: 1, tokens: MEASURED_TOKENS, width, data: noise(MEASURED_TOKENS * width) };
  const times: number[] = [];
  // The first one warms up.
  for (let begin = performance.now(), i = 0; i < 3 || performance.now() - begin < 1000 * seconds; i++) {
    const start = performance.now();
    const { inputs, outputs } = await product.run({ x });
    if (i > 0) times.push((performance.now() - start) / 1000);
    engine.recycle(outputs["y"]);
    x = inputs["x"];
  }
  await product.release();
  const median = times.sort((a, b) => a - b)[times.length >> 1];
  return { flops: (2 * MEASURED_TOKENS * width * rows) / median, threads };
}
