import type { Decoder } from "../model/decoder.js";
import type { QuantizedLinear } from "../quantize/quantized-linear.js";
import type { Bits, Order, QuantScheme, ScaleDtype } from "../quantize/scheme.js";
import type { TensorEntry } from "../safetensors/header.js";
import type { Shard } from "../safetensors/layout.js";
import type { Tensor, TensorSpec } from "../safetensors/tensor.js";

/** What is to become of one linear of the model. */
export interface LinearPlan {
  /** Module name, as `model.layers.0.self_attn.q_proj`. */
  readonly name: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** Absent: it stays as it is, and `why` says why. */
  readonly scheme?: QuantScheme;
  readonly why?: string;
}

/** How many linears there are of each number of bits, the largest number first. */
export type BitsMix = readonly { readonly bits: number; readonly linears: number }[];

/** What a format's config needs to know of the whole run. */
export interface FormatRun {
  /** Every linear of the decoder layers, in order, and lm_head and the embedding if they are to be quantized. */
  readonly linears: readonly LinearPlan[];
  /** The group size that was asked for: −1 for one scale a row. */
  readonly groupSize: number;
  readonly bits: number;
  readonly symmetric: boolean;
  readonly method: "rtn" | "gptq";
  readonly order: Order;
  readonly damp: number;
  /** Module name of lm_head, which readers' models have even where its weight is the embedding's. It is quantized if it is among the linears. */
  readonly lmHead: string;
  /** "shardsmith:VERSION" */
  readonly quantizer: string;
}

/** A program that reads a format. */
export type Program = "transformers" | "GPTQModel" | "vLLM" | "llama.cpp" | "mlx-lm" | "transformers.js";

/** What one program will not take of a checkpoint, though the format can hold it. */
export interface Note {
  readonly program: Program;
  /** `no`: it refuses it, or reads it wrong. `perhaps`: some of its kernels refuse it. `so`: it loads it in the way that the text says. */
  readonly loads: "no" | "perhaps" | "so";
  /** A sentence that names the program. */
  readonly text: string;
}

/** One checkpoint format: from quantized linears to named tensors and config, and back. It knows no method and no model. */
export interface Format {
  readonly name: string;
  /** The bits of linears that it holds. */
  readonly bits: readonly Bits[];
  /** The dtype in which the format keeps scales, for a model whose weights are of `modelDtype` (F16, BF16, F32). */
  scaleDtype(modelDtype: ScaleDtype): ScaleDtype;
  /** How it keeps where a group's grid lies that is not symmetric: as a float; absent: as an integer zero point. */
  readonly offsets?: "float";
  /** It holds linears of 4 bits in super-blocks (GGUF's Q4_K), where these are asked for. */
  readonly kQuants?: true;
  /** Why this format cannot hold such a run at all; undefined if it can. `table`: nothing but lm_head or the embedding. Exact text is part of the interface. */
  refusesRun(run: { readonly bits: number; readonly symmetric: boolean; readonly order: Order; readonly lmHead?: number | undefined; readonly table?: true }): string | undefined;
  /** Group sizes to choose from, the first one first; the first that takes in most weights is taken. Default 128, 64, 32. */
  readonly groupSizes?: readonly number[];
  /** Why this format, or its readers, cannot hold a linear of this shape; undefined if they can. */
  refusesLinear(linear: { readonly outFeatures: number; readonly inFeatures: number }, scheme: QuantScheme): string | undefined;
  /** Its readers take embeddings that are quantized as linears are; where they are lm_head too (tied), as that. */
  readonly embeddings?: true;
  /** The Hub's `library_name` for its checkpoints, where that is not the original's. */
  readonly library?: string;
  /** The programs that read it, each where no note says otherwise. */
  readonly programs: readonly Program[];
  /** What single programs will not take of it, though the format can hold it; none if all take it. For warnings, one a text. */
  notes(linear: { readonly outFeatures: number; readonly inFeatures: number }, scheme: QuantScheme): Note[];
  /** The same of the schemes of a run's quantized linears, taken together. */
  runNotes(schemes: readonly QuantScheme[]): Note[];
  /** The tensors that a quantized linear becomes, before any of it is computed. */
  layout(name: string, linear: { readonly outFeatures: number; readonly inFeatures: number }, scheme: QuantScheme, order: Order): TensorSpec[];
  /** The same tensors with their bytes, in the same order. */
  pack(name: string, linear: QuantizedLinear): Tensor[];
  /** What the format's readers look for: quantization_config and further keys in config.json, and further files (name → JSON). `model`: its config.json. */
  config(run: FormatRun, model?: Readonly<Record<string, unknown>>): {
    readonly quantizationConfig?: Record<string, unknown>;
    readonly configKeys?: Record<string, unknown>;
    readonly files: Record<string, unknown>;
  };
  /** Reads the config of a checkpoint in this format: undefined if it is of another format, `InputError` if it contradicts itself. */
  detect(quantizationConfig: Record<string, unknown>): PackedFormat | undefined;
  /** For formats whose files are not safetensors under the names that the source has. */
  readonly container?: Container;
}

/** What the headers and config.json of the source say. */
export interface ModelFacts {
  /** config.json */
  readonly config: Readonly<Record<string, unknown>>;
  /** Absent for an architecture that is not known. */
  readonly decoder: Decoder | undefined;
  /** The source's tensors, by name. */
  readonly tensors: ReadonlyMap<string, TensorSpec>;
}

/** A model about to be written. */
export interface ModelToWrite extends ModelFacts {
  readonly linears: readonly LinearPlan[];
  /**
   * What is to be stored, in the order in which it is written, under the source's names: what `layout` says of quantized linears, and
   * `stored` of all else.
   */
  readonly outputs: readonly TensorSpec[];
  /** The source's other files: tokenizer.json, tokenizer_config.json, generation_config.json, chat_template.jinja. */
  readonly files: ReadonlyMap<string, number>;
  readFile(name: string): Promise<Uint8Array<ArrayBuffer>>;
  /** "shardsmith:VERSION" */
  readonly quantizer: string;
}

/** Files of a kind of its own that hold a whole model, as GGUF and ONNX. */
export interface Container {
  /** Why its readers cannot take this model at all, from headers alone; undefined if they can. */
  refusesModel(model: ModelFacts): string | undefined;
  /**
   * How a tensor that is not quantized is stored: undefined where it is left out, since its readers compute it or have it elsewhere.
   * Bytes are converted in pieces of whole units, so that a large table passes through memory piece by piece.
   */
  stored(tensor: TensorSpec, model: ModelFacts): Stored | undefined;
  /** Which row of a linear is stored as which: `order[stored]` is the row of the source; absent: as they are. `pack` gets them in this order. */
  rowOrder(linear: string, model: ModelFacts): Int32Array | undefined;
  /** Lays out the files. Their shards' tensors bear the names of `outputs`, whatever they are called inside. */
  layOut(model: ModelToWrite): Promise<{
    readonly shards: readonly Shard[];
    /** Further small files that make it loadable, written last. */
    readonly files: ReadonlyMap<string, Uint8Array>;
    /** Further keys of config.json. */
    readonly configKeys?: Readonly<Record<string, unknown>>;
  }>;
  /** Reads what such files hold, from their headers; undefined where the folder has none. Throws `InputError` naming the file, the tensor and what is wrong. */
  open(folder: ModelFolder): Promise<ContainedModel | undefined>;
}

/** A folder, or a repo, in which a model may lie in a container. */
export interface ModelFolder {
  /** For messages. */
  readonly label: string;
  /** Sizes in bytes, by path. */
  readonly files: ReadonlyMap<string, number>;
  /** Bytes [start, end) of a file. */
  read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /** What its config.json says; throws `InputError` where that is not known. */
  decoder(): Decoder;
}

/** A model in a container, under the names of a safetensors checkpoint. */
export interface ContainedModel {
  readonly tensors: readonly (TensorEntry & {
    readonly file: string;
    /** From its bytes in the file, all of them, to those of a checkpoint; absent where they are the same. */
    readonly restore?: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
  })[];
  /** Absent where nothing is packed. */
  readonly packed: PackedFormat | undefined;
}

/** A tensor in the dtype, and the order of rows, in which a container stores it. */
export interface Stored {
  /** Under the source's name. What has no dtype in safetensors is U8, its shape in bytes. */
  readonly spec: TensorSpec;
  /** Bytes of the source that are converted together; its bytes are a multiple of it. */
  readonly unit: number;
  /** One or more whole units, in the source's order. */
  convert(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>;
}

/** A packed checkpoint's own settings, for reading it. */
export interface PackedFormat {
  readonly format: string;
  /** Of most linears, or of those that its config says first. */
  readonly bits: number;
  readonly groupSize: number;
  readonly symmetric: boolean;
  /** Bits of a packed linear, by the shapes of its tensors (by suffix). Where those do not say it: `bits`. */
  bitsOf(shapes: ReadonlyMap<string, readonly number[]>): number;
  /** The tensor suffixes of a packed linear that must be there (for a module to count as packed), as "qweight". */
  readonly suffixes: readonly string[];
  /** Further suffixes that may be there. */
  readonly optionalSuffixes: readonly string[];
  /** From a packed linear's tensors (by suffix) to codes; throws `InputError` naming the tensor whose dtype or shape is wrong. */
  unpack(name: string, tensors: ReadonlyMap<string, Tensor>): QuantizedLinear;
}
