import { InputError } from "../errors.js";
import { METHODS, type Method } from "../quantize/slab.js";
import { BITS, ORDERS, type Bits, type Order } from "../quantize/scheme.js";
import type { BitsRule } from "./module-rules.js";

/** −1: one scale a row. */
export const GROUP_SIZES = [-1, 32, 64, 128] as const;
export type GroupSize = (typeof GROUP_SIZES)[number];

/** The group size of GGUF's K-quants. */
const K_QUANT_GROUP = 32;

/** Bits that tables of the whole vocabulary may have; fewer cost too much. */
export const TABLE_BITS = [8, 6, 4] as const;
type TableBits = (typeof TABLE_BITS)[number];

/** What each quality is made of. Retargeting takes a second forward pass, which is what `fast` spares. */
export const QUALITIES = {
  fast: { search: true, refine: 4, awq: true, retarget: false },
  balanced: { search: true, refine: 4, awq: true, retarget: true },
  best: { search: true, refine: 8, awq: true, retarget: true },
} as const;
export type Quality = keyof typeof QUALITIES;

/** How to quantize. Every field has a default that suits most models. */
export interface QuantizeSettings {
  /** `gptq` needs calibration text and an architecture that Shardsmith knows; `rtn` (round to nearest) needs neither. Default `gptq`. */
  readonly method?: Method;
  /** Default 4. */
  readonly bits?: Bits;
  /** Linears that stay as they are: patterns of module names, in which `*` stands for anything. */
  readonly keep?: readonly string[];
  /** Other bits for the linears that match a pattern; of several that match, the last counts. */
  readonly bitsFor?: readonly BitsRule[];
  /**
   * Bits a weight, scales and all, of the linears of the layers taken together: a survey of the original model chooses which get how many,
   * and which stay as they are. In place of `bits`.
   */
  readonly targetBits?: number;
  /** Bits of lm_head, for models that have one of their own. Default: it stays as it is. */
  readonly lmHead?: TableBits;
  /** Bits of the embedding, in formats whose readers take that. It is rounded to nearest. Default: it stays as it is. */
  readonly embeddings?: TableBits;
  /** Input channels that share a scale. Default: the largest of 128, 64 and 32 that divides every linear. */
  readonly groupSize?: GroupSize;
  /** Checkpoint format: `gptq` (default) or `compressed-tensors`. */
  readonly format?: string;
  /** Further formats that are to hold the same codes to the last bit; what one of the formats refuses stays as it is in all. */
  readonly alsoIn?: readonly string[];
  /** Zero points in the middle of the range. Default true. */
  readonly symmetric?: boolean;
  /**
   * For `gguf`: linears of 4 bits are Q4_K, whose scales and offsets are of 6 bits in super-blocks of 256 channels, or Q4_1 where their channels fill no whole
   * ones, whatever `symmetric` says. Default false.
   */
  readonly kQuant?: boolean;
  /** Order in which GPTQ visits channels. Default `group-aware`. */
  readonly order?: Order;
  /** How much work goes into the codes, for `gptq`: sets `search`, `refine`, `awq` and `retarget` unless they are given. Default `balanced`. */
  readonly quality?: Quality;
  /** Choose scales by the error they leave, weighted by the Hessian's diagonal, instead of from the largest weight. Default true. */
  readonly search?: boolean;
  /** Sweeps of coordinate descent over the codes after GPTQ, with scales refitted in between; 0: none. Default: as `quality` says. */
  readonly refine?: number;
  /**
   * Scale input channels by how loud they are before quantizing, and the norm or linear before them by the inverse, where that is exact and
   * leaves less error. Default: as `quality` says.
   */
  readonly awq?: boolean;
  /** Aim each linear at what the original model computes there, not at what the half-quantized one does. Default: as `quality` says. */
  readonly retarget?: boolean;
  /** Share of the Hessian's mean diagonal that is added to its diagonal. Default 0.01. */
  readonly damp?: number;
  /**
   * How much less than it shows on the calibration text channels are taken to be correlated: 1 / (1 + shrink) of it after very many tokens, and less after few
   * (`prepareHessian`). Other texts differ, and codes that are fitted closely to one text are worse on the others without it. Default 0.1.
   */
  readonly shrink?: number;
  /** Calibration sequences. Default 128, or as many as the text gives. */
  readonly samples?: number;
  /** Tokens a sequence. Default 2048, or what the model was made for if that is less. */
  readonly sequenceLength?: number;
  /** Seed of the choice of calibration documents. Default 0. */
  readonly seed?: number;
  /** Largest shard in bytes. Default 5 GB. */
  readonly maxShardSize?: number;
  /** Bytes of hidden states held in memory; beyond it they go to a file. Default 2 GB. */
  readonly memory?: number;
}

/** The settings with every default filled in, but those that depend on the model. */
export interface ResolvedSettings {
  readonly method: Method;
  readonly bits: Bits;
  readonly keep: readonly string[];
  readonly bitsFor: readonly BitsRule[];
  readonly targetBits: number | undefined;
  readonly lmHead: TableBits | undefined;
  readonly embeddings: TableBits | undefined;
  readonly groupSize: GroupSize | undefined;
  readonly format: string;
  readonly alsoIn: readonly string[];
  readonly symmetric: boolean;
  readonly kQuant: boolean;
  readonly order: Order;
  readonly search: boolean;
  readonly refine: number;
  readonly awq: boolean;
  readonly retarget: boolean;
  readonly damp: number;
  readonly shrink: number;
  readonly samples: number;
  readonly sequenceLength: number | undefined;
  readonly seed: number;
  readonly maxShardSize: number;
  readonly memory: number;
}

/** How many streams of hidden states go through the layers: the quantized model's, and to retarget by it the original's. */
export function streamsOf({ retarget }: Pick<ResolvedSettings, "retarget">): number {
  return retarget ? 2 : 1;
}

/** Fills in defaults and checks every field; throws `InputError` naming the option and what it may be. */
export function resolveSettings(settings: QuantizeSettings): ResolvedSettings {
  const quality = settings.quality ?? "balanced";
  oneOf("quality", quality, Object.keys(QUALITIES));
  const method = settings.method ?? "gptq";
  const parts = QUALITIES[quality];
  const resolved: ResolvedSettings = {
    method,
    bits: settings.bits ?? 4,
    keep: settings.keep ?? [],
    bitsFor: settings.bitsFor ?? [],
    targetBits: settings.targetBits,
    lmHead: settings.lmHead,
    embeddings: settings.embeddings,
    groupSize: settings.groupSize,
    format: settings.format ?? "gptq",
    alsoIn: settings.alsoIn ?? [],
    symmetric: settings.symmetric ?? true,
    kQuant: settings.kQuant ?? false,
    // Rounding goes by no order, and readers are to know of none.
    order: method === "rtn" ? "natural" : (settings.order ?? "group-aware"),
    search: settings.search ?? parts.search,
    // Rounding to nearest is one step, and knows no activations.
    refine: method === "rtn" ? 0 : (settings.refine ?? parts.refine),
    awq: method === "rtn" ? false : (settings.awq ?? parts.awq),
    retarget: method === "rtn" ? false : (settings.retarget ?? parts.retarget),
    damp: settings.damp ?? 0.01,
    shrink: settings.shrink ?? 0.1,
    samples: settings.samples ?? 128,
    sequenceLength: settings.sequenceLength,
    seed: settings.seed ?? 0,
    maxShardSize: settings.maxShardSize ?? 5e9,
    memory: settings.memory ?? 2e9,
  };
  oneOf("method", resolved.method, METHODS);
  oneOf("bits", resolved.bits, BITS);
  for (const { pattern, bits } of resolved.bitsFor) oneOf(`bits for ${JSON.stringify(pattern)}`, bits, BITS);
  const formats = [resolved.format, ...resolved.alsoIn];
  const twice = formats.find((format, i) => formats.indexOf(format) !== i);
  if (twice !== undefined) throw new InputError(`format ${twice} is named twice`);
  const { targetBits } = resolved;
  if (targetBits !== undefined && !(targetBits > 1 && targetBits <= 32)) throw new InputError(`target bits is ${String(targetBits)}; it must lie above 1 and be at most 32`);
  if (resolved.lmHead !== undefined) oneOf("lm_head", resolved.lmHead, TABLE_BITS);
  if (resolved.embeddings !== undefined) oneOf("embeddings", resolved.embeddings, TABLE_BITS);
  oneOf("order", resolved.order, ORDERS);
  if (resolved.groupSize !== undefined) oneOf("group size", resolved.groupSize, GROUP_SIZES);
  if (resolved.kQuant && resolved.groupSize !== undefined && resolved.groupSize !== K_QUANT_GROUP) {
    throw new InputError(`group size is ${String(resolved.groupSize)}; K-quants have groups of ${String(K_QUANT_GROUP)}`);
  }
  whole("samples", resolved.samples, 1);
  if (resolved.sequenceLength !== undefined) whole("sequence length", resolved.sequenceLength, 2);
  whole("seed", resolved.seed, 0);
  whole("refine", resolved.refine, 0);
  whole("max shard size", resolved.maxShardSize, 1);
  whole("memory", resolved.memory, 0);
  if (!(resolved.damp > 0 && resolved.damp <= 1)) throw new InputError(`damp is ${String(resolved.damp)}; it must lie above 0 and be at most 1`);
  if (!(resolved.shrink >= 0 && resolved.shrink <= 10)) throw new InputError(`shrink is ${String(resolved.shrink)}; it must lie between 0 and 10`);
  return resolved;
}

function oneOf(name: string, value: unknown, allowed: readonly unknown[]): void {
  if (!allowed.includes(value)) throw new InputError(`${name} is ${String(value)}; it may be ${allowed.map(String).join(", ")}`);
}

function whole(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least) throw new InputError(`${name} is ${String(value)}; it must be a whole number of at least ${String(least)}`);
}
