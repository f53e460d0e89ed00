import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import type { Tensor } from "../safetensors/tensor.js";
import type { Weights } from "./open-weights.js";

/** The packed linears of a checkpoint. */
export interface PackedLinears {
  /** The tensors of each, by suffix → whole name, by the module's name. */
  readonly parts: ReadonlyMap<string, ReadonlyMap<string, string>>;
  /** Reads and unpacks one. Throws `InputError` naming the tensor that is not as the format has it. */
  readonly read: (module: string) => Promise<QuantizedLinear>;
}

/** Finds the modules that have all tensors of a packed linear; none in a plain checkpoint. */
export function packedLinears({ checkpoint, packed }: Weights): PackedLinears {
  const { tensors } = checkpoint;
  const parts = new Map<string, ReadonlyMap<string, string>>();
  const [first = "", ...others] = packed?.suffixes ?? [];
  for (const name of tensors.keys()) {
    const module = name.slice(0, -first.length - 1);
    if (packed === undefined || name !== `${module}.${first}` || !others.every((suffix) => tensors.has(`${module}.${suffix}`))) continue;
    const suffixes = [...packed.suffixes, ...packed.optionalSuffixes].filter((suffix) => tensors.has(`${module}.${suffix}`));
    parts.set(module, new Map(suffixes.map((suffix) => [suffix, `${module}.${suffix}`])));
  }
  return {
    parts,
    async read(module) {
      const own = parts.get(module)!;
      const read = await checkpoint.readMany([...own.values()]);
      return packed!.unpack(module, new Map([...own].map(([suffix, name]): [string, Tensor] => [suffix, read.get(name)!])));
    },
  };
}
