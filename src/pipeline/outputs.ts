import type { Format, LinearPlan, ModelFacts, Stored } from "../formats/format.js";
import type { Decoder } from "../model/decoder.js";
import type { Order } from "../quantize/scheme.js";
import { byteSize } from "../safetensors/dtypes.js";
import type { TensorSpec } from "../safetensors/tensor.js";

/** What every tensor of a checkpoint becomes, and the order in which that is written. */
export interface Outputs {
  /** The output's tensors in the order in which they are written: those of no layer first, then layer by layer. */
  readonly outputs: readonly TensorSpec[];
  /** What each tensor of the checkpoint becomes, by name; nothing where the format leaves it out. */
  readonly outputsOf: ReadonlyMap<string, readonly string[]>;
  /** How the tensors that are not quantized are stored, by name. */
  readonly stored: ReadonlyMap<string, Stored>;
  /** The checkpoint's tensors that belong to no layer and stay as they are. */
  readonly outside: readonly string[];
  /** The checkpoint's tensors of each layer; an lm_head and an embedding that are quantized come behind them, each a layer of its own. */
  readonly layers: readonly (readonly string[])[];
  /** Bits a weight of the linears that are quantized (lm_head and the embedding too, if they are), scales and all. */
  readonly bitsPerWeight: number;
}

/** Lays out what becomes of a model of which it is decided which linears are quantized, and how. */
export function outputsFor(model: ModelFacts, linears: readonly LinearPlan[], order: Order, format: Format): Outputs {
  const { tensors, decoder } = model;
  const planned = new Map(linears.filter(({ scheme }) => scheme !== undefined).map((linear) => [`${linear.name}.weight`, linear]));
  const layers = decoder === undefined ? layersByName(tensors) : layersOf(decoder, tensors);
  const inLayers = new Set(layers.flat());
  for (const name of planned.keys()) if (!inLayers.has(name)) layers.push([name]);
  const layered = new Set(layers.flat());
  const outside = [...tensors.keys()].filter((name) => !layered.has(name)).sort();
  const names = [...outside, ...layers.flat()];
  const stored = new Map(names.filter((name) => !planned.has(name)).flatMap((name): [string, Stored][] => {
    const own = storedAs(tensors.get(name)!, model, format);
    return own === undefined ? [] : [[name, own]];
  }));
  const specs = new Map(names.map((name): [string, TensorSpec[]] => {
    const linear = planned.get(name);
    if (linear?.scheme !== undefined) return [name, format.layout(linear.name, linear, linear.scheme, order)];
    const own = stored.get(name);
    return [name, own === undefined ? [] : [own.spec]];
  }));
  const packedBytes = [...planned.keys()].flatMap((name) => specs.get(name)!).reduce((sum, { dtype, shape }) => sum + byteSize(dtype, shape), 0);
  const quantized = [...planned.values()].reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, 0);
  return {
    outputs: [...specs.values()].flat(),
    outputsOf: new Map([...specs].map(([name, made]) => [name, made.map((spec) => spec.name)])),
    stored, outside, layers,
    bitsPerWeight: (8 * packedBytes) / quantized,
  };
}

/** How a tensor that is not quantized is stored: as it is, where the format has no container that says otherwise; undefined where it is left out. */
function storedAs({ name, dtype, shape }: TensorSpec, model: ModelFacts, { container }: Format): Stored | undefined {
  const spec = { name, dtype, shape };
  if (container === undefined) return { spec, unit: 1, convert: (bytes) => bytes };
  const stored = container.stored(spec, model);
  if (stored !== undefined && byteSize(dtype, shape) % stored.unit !== 0) throw new Error(`${name} is no whole number of units of ${String(stored.unit)} bytes`);
  return stored;
}

/** Tensors by the first number in their names, as they would lie in a decoder. */
export function layersByName(tensors: ReadonlyMap<string, TensorSpec>): string[][] {
  const layers = new Map<string, string[]>();
  for (const name of [...tensors.keys()].sort()) {
    const prefix = IN_LAYER.exec(name);
    if (prefix === null) continue;
    const layer = name.slice(0, prefix.index + prefix[0].length);
    layers.set(layer, [...(layers.get(layer) ?? []), name]);
  }
  const numberOf = (prefix: string): number => Number(/(\d+)\.$/.exec(prefix)![1]);
  return [...layers].sort(([a], [b]) => numberOf(a) - numberOf(b) || (a < b ? -1 : 1)).map(([, names]) => names);
}

const IN_LAYER = /(^|\.)\d+\./;

function layersOf(decoder: Decoder, tensors: ReadonlyMap<string, TensorSpec>): string[][] {
  return Array.from({ length: decoder.layers }, (_, layer) => decoder.tensorsOf(layer).filter((name) => tensors.has(name)));
}
