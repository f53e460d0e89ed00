import type { BitsMix } from "../formats/format.js";
import { detectFormat } from "../formats/formats.js";
import { InputError } from "../errors.js";
import { openCheckpoint, readHeader } from "../source/checkpoint.js";
import type { Source } from "../source/source.js";
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
  const { tensors, config } = await openCheckpoint(source);
  const packed = detectFormat(config);
  const described = describe(source.label, [...tensors.values()]);
  const modelType = config["model_type"];
  const parts = packed === undefined ? [] : [...packed.suffixes, ...packed.optionalSuffixes];
  const ofLinears = described.tensors.filter(({ name }) => parts.some((suffix) => name.endsWith(`.${suffix}`)));
  const shapes = new Map(ofLinears.map(({ name, shape }) => [name, shape]));
  const modules = packed === undefined ? [] : [...shapes.keys()].filter((name) => name.endsWith(`.${packed.suffixes[0]}`)).map((name) => name.slice(0, -packed.suffixes[0].length - 1));
  return {
    ...described,
    ...(typeof modelType === "string" && { modelType }),
    ...(packed && {
      quantization: {
        format: packed.format, bits: packed.bits, groupSize: packed.groupSize, symmetric: packed.symmetric,
        linears: modules.length,
        mix: mixOf(modules.map((module) => packed.bitsOf(new Map(parts.flatMap((suffix) => (shapes.has(`${module}.${suffix}`) ? [[suffix, shapes.get(`${module}.${suffix}`)!]] : [])))))),
        bytes: ofLinears.reduce((sum, { bytes }) => sum + bytes, 0),
      },
    }),
  };
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
