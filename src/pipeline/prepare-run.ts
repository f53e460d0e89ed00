import { InputError } from "../errors.js";
import type { Format, ModelFacts } from "../formats/format.js";
import { formatByName } from "../formats/formats.js";
import type { Decoder } from "../model/decoder.js";
import { checkShapes } from "../model/check-shapes.js";
import { decoderOf } from "../model/decoder-of.js";
import { withOwnHead } from "../model/head.js";
import { INDEX_FILE } from "../safetensors/index-file.js";
import { indexJson, planShards, type Shard } from "../safetensors/layout.js";
import { openCheckpoint, type Checkpoint } from "../source/checkpoint.js";
import type { Source } from "../source/source.js";
import { VERSION } from "../version.js";
import { checkTarget } from "./choose-bits.js";
import { knownDecoder } from "./known-decoder.js";
import type { Wish } from "./module-rules.js";
import { resolveSettings, type GroupSize, type QuantizeSettings, type ResolvedSettings } from "./options.js";
import { planRun, type Plan } from "./plan.js";

/** What a run is, once its source's headers and its settings are known. */
export interface PreparedRun {
  readonly checkpoint: Checkpoint;
  readonly decoder: Decoder | undefined;
  readonly settings: ResolvedSettings;
  readonly plan: Plan;
  readonly shards: readonly Shard[];
  /** Small files without which the shards cannot be read, as their index. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** What config.json must say of them. */
  readonly configKeys?: Readonly<Record<string, unknown>>;
  readonly sourceBytes: number;
  /** Of the shards. */
  readonly bytes: number;
}

/** What a run's source is to a format. */
export function factsOf({ checkpoint, decoder }: Pick<PreparedRun, "checkpoint" | "decoder">): ModelFacts {
  return { config: checkpoint.config, decoder, tensors: checkpoint.tensors };
}

/** "shardsmith:VERSION", as formats name their maker. */
export const QUANTIZER = `shardsmith:${VERSION}`;

/** Reads headers and config, and decides what becomes of every tensor. Throws `InputError` for whatever would not work out. */
export async function prepareRun(source: Source, given: QuantizeSettings): Promise<PreparedRun> {
  const settings = resolveSettings(given);
  const format = formatByName(settings.format);
  const checkpoint = await openCheckpoint(source);
  const quantized = ["quantization_config", "quantization"].find((key) => checkpoint.config[key] !== undefined);
  if (quantized !== undefined) throw new InputError(`${source.label} is quantized already (config.json has a ${quantized}); quantize the original instead`);
  const decoder = decoderFor(checkpoint, settings);
  if (decoder !== undefined) checkShapes(decoder, checkpoint.tensors, source.label);
  // Refused here, before anything is opened for writing.
  if (decoder !== undefined) sequenceLengthOf(settings.sequenceLength, decoder.maxPositions, source.label);
  const plan = planRun(factsOf({ checkpoint, decoder }), settings, format);
  if (settings.targetBits !== undefined) checkTarget({ checkpoint, decoder, settings, plan }, settings.targetBits);
  return laidOut({ checkpoint, decoder, settings, plan }, format);
}

/** The same run with what a survey chose. */
export function withBits({ checkpoint, decoder, settings: given, plan: { groupSize } }: PreparedRun, wishes: ReadonlyMap<string, Wish>): Promise<PreparedRun> {
  // Costs were counted at this size.
  const settings = { ...given, groupSize: groupSize as GroupSize };
  const format = formatByName(settings.format);
  return laidOut({ checkpoint, decoder, settings, plan: planRun(factsOf({ checkpoint, decoder }), settings, format, wishes) }, format);
}

/** A planned run with its files. Throws `InputError` for a model that the format's files cannot hold. */
export async function laidOut(run: Pick<PreparedRun, "checkpoint" | "decoder" | "settings" | "plan">, format: Format): Promise<PreparedRun> {
  const files = await filesOf(factsOf(run), run.plan, run.checkpoint, run.settings.maxShardSize, format);
  const sum = (sizes: Iterable<number>): number => [...sizes].reduce((total, size) => total + size, 0);
  return {
    ...run, ...files,
    sourceBytes: sum([...run.checkpoint.tensors.values()].map(({ start, end }) => end - start)),
    bytes: sum(files.shards.map(({ size }) => size)),
  };
}

/** Lays out the files of an output. Throws `InputError` for a model that the format's files cannot hold. */
export async function filesOf(
  model: ModelFacts, { linears, outputs }: Pick<Plan, "linears" | "outputs">, from: Pick<Checkpoint, "files" | "readFile">, maxShardSize: number, { container }: Format,
): Promise<Pick<PreparedRun, "shards" | "files" | "configKeys">> {
  if (container !== undefined) return await container.layOut({ ...model, linears, outputs, quantizer: QUANTIZER, files: from.files, readFile: (name) => from.readFile(name) });
  const shards = planShards(outputs, maxShardSize);
  return { shards, files: new Map(shards.length > 1 ? [[INDEX_FILE, new TextEncoder().encode(indexJson(shards))]] : []) };
}

/** Most tokens a sequence has unless it is asked for. */
const SEQUENCE_LENGTH = 2048;

/** Tokens a sequence: as asked for, or as many as are usual. Throws `InputError` for more than the model was made for. */
export function sequenceLengthOf(asked: number | undefined, maxPositions: number, label: string): number {
  const length = asked ?? Math.min(SEQUENCE_LENGTH, maxPositions);
  if (length > maxPositions) {
    throw new InputError(`sequence length is ${String(length)}, but ${label} was made for ${String(maxPositions)} tokens at most (max_position_embeddings)`);
  }
  return length;
}

/** Architectures of transformers whose linears are `Conv1D`: their weights lie transposed, [in, out], and say so nowhere. */
const TRANSPOSED = ["gpt2", "openai-gpt", "imagegpt", "decision_transformer"];

function decoderFor(checkpoint: Checkpoint, { method, targetBits }: ResolvedSettings): Decoder | undefined {
  const file = `${checkpoint.source.label}/config.json`;
  if (method !== "rtn" || targetBits !== undefined) return withOwnHead(decoderOf(checkpoint.config, file), checkpoint.tensors);
  // Rounding needs no forward pass, so an architecture that is not known is no obstacle to it.
  const decoder = knownDecoder(checkpoint);
  const { model_type: type } = checkpoint.config;
  if (decoder === undefined && TRANSPOSED.includes(String(type))) throw new InputError(`${file}: ${String(type)} stores its linears transposed (as Conv1D), which Shardsmith cannot quantize`);
  return decoder;
}
