import { existsSync, readFileSync } from "node:fs";
import { expect } from "vitest";
import type { Activations, Engine } from "#src/engine/engine.js";
import { checkShapes } from "#src/model/check-shapes.js";
import { decoderOf } from "#src/model/decoder-of.js";
import type { Decoder } from "#src/model/decoder.js";
import { embed, runStages } from "#src/model/forward.js";
import { capLogits, finalNormStage, logitsGraph } from "#src/model/head.js";
import { isFloatDtype, toFloat32 } from "#src/safetensors/floats.js";
import { parseHeader } from "#src/safetensors/header.js";

/** What scripts/make-model-goldens.py wrote: see there. */
export const FIXTURES = new URL("../fixtures/models/", import.meta.url).pathname;
/** The trained model that only some machines have. */
export const STORIES = new URL("../../../shared/models/stories260K/", import.meta.url).pathname;
export const hasStories = existsSync(`${STORIES}model.safetensors`);

export interface Values {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

export function readJson(path: string): unknown {
  return JSON.parse(readFileSync(path, "utf8"));
}

/** All tensors of a safetensors file as numbers. */
export function readTensors(path: string): Map<string, Values> {
  const file = new Uint8Array(readFileSync(path));
  const { tensors } = parseHeader(file, file.length, path);
  return new Map([...tensors].map(([name, { dtype, shape, start, end }]) => {
    const bytes = file.slice(start, end);
    return [name, { shape, values: isFloatDtype(dtype) ? toFloat32(bytes, dtype) : Array.from(new BigInt64Array(bytes.buffer), Number) }];
  }));
}

/** A config.json with the changes of a variant: "absent" takes a field away. */
export function changed(config: unknown, fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries({ ...(config as object), ...fields }).filter(([, value]) => value !== "absent"));
}

/**
 * Our logits [batch, tokens, vocab]: the plain chain, with lm_head in two parts, as large vocabularies are taken. The run may have
 * longer sequences than these: `positions`.
 */
export async function logitsOf(
  engine: Engine, decoder: Decoder, tensors: ReadonlyMap<string, Values>, sequences: readonly number[][], positions = sequences[0].length,
): Promise<Activations> {
  checkShapes(decoder, tensors, "the fixture");
  const { hiddenSize: width, vocabSize } = decoder;
  const read = (name: string) => Float32Array.from(tensors.get(name)!.values);
  const table = read(decoder.embedding.tensor);
  let hidden = [embed(sequences, width, decoder.embedding.scale, (token, into) => into.set(table.subarray(token * width, (token + 1) * width)))];
  const chains = [...Array.from({ length: decoder.layers }, (_, layer) => decoder.stages(layer, positions)), [finalNormStage(decoder)]];
  for (const stages of chains) {
    const done: Activations[] = [];
    for await (const h of runStages(engine, stages, (name) => Promise.resolve(read(name)), hidden)) done.push(h);
    hidden = done;
  }

  const tokens = sequences[0].length;
  const head = read(decoder.lmHead.tensor);
  const all = new Float32Array(sequences.length * tokens * vocabSize);
  let x = hidden[0];
  for (const [from, to] of [[0, 50], [50, vocabSize]] as const) {
    const graph = await engine.prepare(logitsGraph(width, to - from), new Map([["lm_head", head.slice(from * width, to * width)]]));
    const ran = await graph.run({ x });
    x = ran.inputs["x"]!;
    const { data } = ran.outputs["logits"];
    for (let row = 0; row < sequences.length * tokens; row++) {
      all.set(data.subarray(row * (to - from), (row + 1) * (to - from)), row * vocabSize + from);
    }
    await graph.release();
  }
  capLogits(all, decoder.lmHead.softcap);
  return { batch: sequences.length, tokens, width: vocabSize, data: all };
}

/** Checks our logits against a golden's, relative to its largest: both sequences in one batch, and the second alone. */
export async function expectGoldenLogits(engine: Engine, config: unknown, tensors: ReadonlyMap<string, Values>, golden: ReadonlyMap<string, Values>, variant: string): Promise<void> {
  const decoder = decoderOf(config, "config.json");
  const { shape: [batch, length], values: tokens } = golden.get("tokens")!;
  const sequences = Array.from({ length: batch }, (_, i) => Array.from(tokens).slice(i * length, (i + 1) * length));
  const positions = Array.from(golden.get("positions")!.values);
  const { values: wanted } = golden.get(`logits.${variant}`)!;
  const largest = Math.max(...Array.from(wanted, Math.abs));
  const { vocabSize } = decoder;

  for (const first of [0, 1]) {
    const ours = await logitsOf(engine, decoder, tensors, sequences.slice(first));
    let worst = 0;
    for (let row = 0; row < ours.batch; row++) {
      positions.forEach((position, i) => {
        for (let token = 0; token < vocabSize; token++) {
          const theirs = wanted[((row + first) * positions.length + i) * vocabSize + token];
          worst = Math.max(worst, Math.abs(ours.data[(row * ours.tokens + position) * vocabSize + token] - theirs));
        }
      });
    }
    expect(worst / largest).toBeLessThan(1e-5);
  }
}
