import { describe, expect, it } from "vitest";
import type { Activations } from "#src/engine/engine.js";
import { decoderOf } from "#src/model/decoder-of.js";
import type { Stage } from "#src/model/decoder.js";
import { weightsOf } from "#src/model/weights.js";
import { plainGraph } from "../engine/plain-graph.js";
import { gaussians, generator } from "../quantize/random.js";
import { FIXTURES, readJson, readTensors } from "./golden.js";

const TOKENS = 12;
type Tensors = Map<string, Float32Array<ArrayBuffer>>;

function load(family: string) {
  const decoder = decoderOf(readJson(`${FIXTURES}${family}/config.json`), "config.json");
  const tensors: Tensors = new Map([...readTensors(`${FIXTURES}${family}/model.safetensors`)].map(([name, { values }]) => [name, Float32Array.from(values)]));
  return { decoder, tensors };
}

/** What a layer makes of some hidden states, in plain loops in doubles (float32 between stages). */
async function outputOf(stages: readonly Stage[], tensors: Tensors, h: Activations): Promise<Float32Array> {
  let values: Record<string, Activations> = { h };
  for (const stage of stages) {
    const weights = await weightsOf(stage, (name) => Promise.resolve(tensors.get(name)!.slice()));
    const widths = new Map(stage.graph.outputs.map(({ name, width }) => [name, width]));
    const made = Object.entries(plainGraph(stage.graph, weights, values)).map(([name, data]) => [name, { ...h, width: widths.get(name)!, data: Float32Array.from(data) }] as const);
    const all: Record<string, Activations> = { ...values, ...Object.fromEntries(made) };
    values = Object.fromEntries(stage.carry.map((name) => [name, all[name]]));
  }
  return values["h"].data;
}

/** Folds s into what comes before a stage, and its inverse into the stage's linears. */
function fold({ fold: into, linears }: Stage, s: ArrayLike<number>, tensors: Tensors): void {
  const times = (name: string, factor: (row: number, column: number) => number, columns: number): void => {
    tensors.set(name, tensors.get(name)!.map((value, i) => value * factor(Math.floor(i / columns), i % columns)));
  };
  for (const { name, inFeatures } of linears) times(`${name}.weight`, (_, column) => s[column], inFeatures);
  if (into === undefined) throw new Error("nothing to fold into");
  if ("norm" in into) {
    tensors.set(into.norm, tensors.get(into.norm)!.map((w, i) => (w + into.plus) / s[i] - into.plus));
  } else {
    const name = `${into.linear}.weight`;
    const rows = Math.max(...into.rowOf) + 1;
    const divisors = new Float64Array(rows).fill(1);
    into.rowOf.forEach((row, channel) => (divisors[row] = s[channel]));
    times(name, (row) => 1 / divisors[row], tensors.get(name)!.length / rows);
  }
}

/** Random, between 1/4 and 4; alike for channels of one row. */
function scalesOf({ fold: into, linears: [{ inFeatures }] }: Stage, random: () => number): Float64Array {
  const s = Float64Array.from({ length: inFeatures }, () => 4 ** (2 * random() - 1));
  return into && "linear" in into ? s.map((_, channel) => s[into.rowOf.indexOf(into.rowOf[channel])]) : s;
}

const ALL = ["attention in", "attention out", "mlp in", "mlp out"];

describe.each([
  ["llama", ALL],
  // Biases of v and up would have to be divided, too.
  ["llama-biases", ["attention in", "mlp in"]],
  ["mistral", ALL],
  ["qwen2", ["attention in", "mlp in", "mlp out"]],
  ["qwen3", ALL],
  ["gemma3-text", ALL],
])("%s", (family, foldable) => {
  const { decoder, tensors } = load(family);
  const random = generator(7);
  const h: Activations = { batch: 2, tokens: TOKENS, width: decoder.hiddenSize, data: gaussians(2 * TOKENS * decoder.hiddenSize, random) };

  it("has folds where they are exact, and nowhere else", () => {
    for (let layer = 0; layer < decoder.layers; layer++) {
      const stages = decoder.stages(layer, TOKENS);
      expect(stages.filter((stage) => stage.fold).map(({ name }) => name)).toEqual(foldable);
      for (const stage of stages) {
        if (stage.fold === undefined) continue;
        if ("norm" in stage.fold) {
          expect(tensors.get(stage.fold.norm)).toHaveLength(stage.linears[0].inFeatures);
        } else {
          const { linear: name, rowOf } = stage.fold;
          const before = stages[stages.indexOf(stage) - 1].linears.find((linear) => linear.name === name)!;
          expect(rowOf).toHaveLength(stage.linears[0].inFeatures);
          // Every row is a channel's.
          expect(new Set(rowOf)).toEqual(new Set(Array(before.outFeatures).keys()));
        }
      }
    }
  });

  it.each([...foldable, foldable.join(", ")])("computes the same once scales are folded at %s", async (names) => {
    for (let layer = 0; layer < decoder.layers; layer++) {
      const stages = decoder.stages(layer, TOKENS);
      const folded = new Map(tensors);
      for (const stage of stages) if (names.split(", ").includes(stage.name)) fold(stage, scalesOf(stage, random), folded);
      const before = await outputOf(stages, tensors, h);
      const after = await outputOf(stages, folded, h);
      // Beside what the layer adds to the hidden state.
      const largest = Math.max(...before.map((value, i) => Math.abs(value - h.data[i])));
      expect(largest).toBeGreaterThan(0.01);
      expect(Math.max(...after.map((value, i) => Math.abs(value - before[i])))).toBeLessThan(1e-5 * largest);
    }
  });

  it("would not, with other scales or rows than these", async () => {
    const stages = decoder.stages(0, TOKENS);
    const before = await outputOf(stages, tensors, h);
    for (const stage of stages.filter(({ fold: into }) => into)) {
      const folded = new Map(tensors);
      // Against the order of the channels: every scale lands at another one's place.
      const s = scalesOf(stage, random);
      fold(stage, s, folded);
      for (const { name, inFeatures } of stage.linears) {
        folded.set(`${name}.weight`, tensors.get(`${name}.weight`)!.map((w, i) => w * s[inFeatures - 1 - (i % inFeatures)]));
      }
      const after = await outputOf(stages, folded, h);
      expect(Math.max(...after.map((value, i) => Math.abs(value - before[i])))).toBeGreaterThan(1e-3);
    }
  });
});
