import type { BitsMix, PackedFormat } from "../formats/format.js";
import { InputError } from "../errors.js";
import { readHeader } from "../source/checkpoint.js";
import type { Source } from "../source/source.js";
import { knownDecoder } from "./known-decoder.js";
import { checkPacked } from "./check-packed.js";
import { openWeights } from "./open-weights.js";
import { mixOf } from "./plan.js";

/** What a checkpoint, or a single safetensors file, holds. */
export interface Inspection {
  readonly source: string;
  readonly modelType?: string;
  readonly files: readonly { readonly file: string; readonly tensors: number; readonly bytes: number }[];
  readonly tensors: readonly { readonly name: string; readonly file: string; readonly dtype: string; readonly shape: readonly number[]; readonly bytes: number }[];
  /** Bytes of all tensors. */
  readonly bytes: number;
  /** How it is quantized, if it is. */
  readonly quantization?: {
    readonly format: string;
    readonly bits: number;
    readonly groupSize: number;
    readonly symmetric: boolean;
    /** Linears that are stored packed, and their bits. */
    readonly linears: number;
    readonly mix: BitsMix;
    /** Bytes of their tensors. */
    readonly bytes: number;
  };
}

/** Reads headers and config.json. `file`: only this safetensors file of the source, which then needs no config.json. */
export async function inspectCheckpoint(source: Source, file: string | undefined): Promise<Inspection> {
  if (file !== undefined) {
    const size = (await source.list()).get(file);
    if (size === undefined) throw new InputError(`${source.label}/${file}: no such file`);
    const { tensors } = await readHeader(source, file, size);
    return describe(`${source.label}/${file}`, [...tensors.values()].map((tensor) => ({ ...tensor, file })));
  }
  const weights = await openWeights(source);
  const { checkpoint: { tensors, config }, packed } = weights;
  const decoder = packed && knownDecoder(weights.checkpoint);
  if (decoder !== undefined) checkPacked(weights, decoder);
  const described = describe(source.label, [...tensors.values()]);
  const modelType = config["model_type"];
  const parts = packed === undefined ? [] : [...packed.suffixes, ...packed.optionalSuffixes];
  const stored = new Map(described.tensors.map((tensor) => [tensor.name, tensor]));
  const modules = packed === undefined ? [] : modulesOf(packed, stored);
  const partsOf = (module: string): [string, Inspection["tensors"][number]][] =>
    parts.flatMap((suffix) => {
      const tensor = stored.get(`${module}.${suffix}`);
      return tensor === undefined ? [] : [[suffix, tensor]];
    });
  return {
    ...described,
    ...(typeof modelType === "string" && { modelType }),
    ...(packed && {
      quantization: {
        format: packed.format, bits: packed.bits, groupSize: packed.groupSize, symmetric: packed.symmetric,
        linears: modules.length,
        mix: mixOf(modules.map((module) => packed.bitsOf(new Map(partsOf(module).map(([suffix, { shape }]) => [suffix, shape]))))),
        bytes: modules.flatMap(partsOf).reduce((sum, [, { bytes }]) => sum + bytes, 0),
      },
    }),
  };
}

/** The modules that have all parts of a packed linear; one alone may be a plain weight. */
function modulesOf({ suffixes }: PackedFormat, tensors: ReadonlyMap<string, unknown>): string[] {
  const [first] = suffixes;
  return [...tensors.keys()]
    .filter((name) => name.endsWith(`.${first}`))
    .map((name) => name.slice(0, -first.length - 1))
    .filter((module) => suffixes.every((suffix) => tensors.has(`${module}.${suffix}`)));
}

interface Stored {
  readonly name: string;
  readonly file: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly start: number;
  readonly end: number;
}

function describe(source: string, stored: readonly Stored[]): Inspection {
  const tensors = stored.map(({ name, file, dtype, shape, start, end }) => ({ name, file, dtype, shape, bytes: end - start }));
  const files = [...new Set(tensors.map(({ file }) => file))].map((file) => {
    const own = tensors.filter((tensor) => tensor.file === file);
    return { file, tensors: own.length, bytes: own.reduce((sum, { bytes }) => sum + bytes, 0) };
  });
  return { source, files, tensors, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0) };
}
