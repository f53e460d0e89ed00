import type { CalibrationPart } from "../calibration/calibration-set.js";

/** What became of one linear. */
export interface LinearReport {
  readonly name: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** Absent: left as it is. */
  readonly quantized?: {
    /** `other`: another program did, and what follows but bits and scales is not known. */
    readonly method: "rtn" | "gptq" | "other";
    readonly bits: number;
    readonly groupSize: number;
    /** tr(ΔW H ΔWᵀ) / tr(W H Wᵀ): the share of the output's energy that is now error. For `rtn` without calibration, H is the identity. */
    readonly relativeError?: number;
    readonly scales: { readonly min: number; readonly median: number; readonly max: number };
    /** What gathered the Hessian, "CPU" or a GPU's name; `gptq` only, and absent from reports of version 0.1. */
    readonly device?: string;
    /** What computed its inputs in the forward pass, as `device`. */
    readonly forward?: string;
    /** Share of the mean diagonal that was added to the Hessian before it could be factored; `gptq` only. */
    readonly damp?: number;
    /** Activation-aware scales of the input channels were folded into what comes before: the largest over the least. */
    readonly awq?: number;
    /** Input channels that were zero on all calibration tokens. */
    readonly deadInputs?: number;
    readonly seconds: number;
  };
  /** What is worse than it should be, or why the linear stays as it is. */
  readonly note?: string;
}

/** Seconds by what was done in them. They overlap where work does. */
export type PartSeconds = Record<"read" | "forward" | "hessian" | "factor" | "sweep" | "pack" | "write", number>;

/** What a checkpoint was before it was converted. */
export interface Converted {
  /** In which it was made. */
  readonly format: string;
  /** Its folder, or the repo and commit. */
  readonly source: string;
  /** Of its files with weights: what tells their state from another. */
  readonly files: Readonly<Record<string, string>>;
}

/** The whole run, as it is kept in shardsmith.json. */
export interface Report {
  readonly shardsmith: string;
  readonly source: string;
  /** Of a source on a Hub; the bytes are those of the last, uninterrupted part of the run. */
  readonly hub?: { readonly repo: string; readonly commit: string; readonly bytesRead: number };
  readonly engine: string;
  /**
   * Bytes that buffers took of a GPU's memory at the most, in the last, uninterrupted part of the run: Hessians and what they are made of, and the weights,
   * inputs and outputs of the forward pass. What ONNX Runtime needs between these is its own. Absent where there was no GPU.
   */
  readonly deviceMemory?: number;
  /** The codes were read from a checkpoint in another format; what is said of `run` is how that was made, if it is known. */
  readonly converted?: Converted;
  readonly run: Readonly<Record<string, string | number | boolean>>;
  readonly calibration?: {
    readonly origin: string; readonly documents: number; readonly sequences: number; readonly tokens: number;
    /** What each text gave; absent from reports of version 0.1. */
    readonly parts?: readonly CalibrationPart[];
  };
  readonly linears: readonly LinearReport[];
  readonly notices: readonly string[];
  readonly warnings: readonly string[];
  readonly sourceBytes: number;
  readonly bytes: number;
  /** Bits a weight of the linears that were quantized, scales and all. */
  readonly bitsPerWeight: number;
  readonly shards: readonly { readonly file: string; readonly size: number; readonly sha256: string }[];
  /** Wall time of the last, uninterrupted part of the run, and where it went. */
  readonly seconds: number;
  readonly parts: PartSeconds;
  /** Layers that an interrupted run had finished before. */
  readonly resumedAtLayer: number;
}
