import type { CalibrationPart } from "../calibration/calibration-set.js";
import type { BitsMix } from "../formats/format.js";
import type { Retry } from "../hub/attempts.js";
import type { LinearReport, Report } from "../report/report.js";

/** A request to a Hub failed, and is made again after some seconds. */
export type RetryEvent = { readonly type: "retry" } & Retry;

/** What computes, and in one line where Hessians are gathered and why. */
export interface DeviceEvent {
  readonly type: "device";
  readonly engine: string;
  readonly why: string;
}

/** What a run tells while it works. */
export type QuantizeEvent =
  | {
      readonly type: "plan";
      /** `commit`: of a source on a Hub, the one that is read. */
      readonly source: string; readonly commit?: string; readonly output: string; readonly method: string; readonly format: string; readonly bits: number; readonly groupSize: number; readonly mix: BitsMix;
      readonly layers: number; readonly linears: number; readonly quantized: number;
      readonly sourceBytes: number; readonly bytes: number; readonly shards: number; readonly notices: readonly string[];
    }
  /** The survey for `targetBits`, before the plan; `done` is 0 … 1 of it. */
  | { readonly type: "survey"; readonly layer: number; readonly layers: number; readonly done: number }
  /** What it chose; an earlier run may have, which this one takes up. */
  | { readonly type: "choice"; readonly targetBits: number; readonly mix: BitsMix; readonly kept: number }
  | {
      readonly type: "calibration";
      readonly origin: string; readonly documents: number; readonly sequences: number; readonly tokens: number; readonly sequenceLength: number;
      /** What each text gave, and of data sets the commit. The seed chose among their documents. */
      readonly parts: readonly CalibrationPart[]; readonly seed: number;
      /** Why these texts, where nobody chose them. */
      readonly why?: string;
    }
  | DeviceEvent
  /** An interrupted run is taken up at this layer. */
  | { readonly type: "resume"; readonly layer: number }
  | {
      readonly type: "progress";
      readonly layer: number; readonly layers: number; readonly stage: string;
      /** 0 … 1 of the whole run; for work that an earlier run did, of what it left. */
      readonly done: number;
      /** Calibration tokens a second through the current stage; absent between passes. */
      readonly tokensPerSecond?: number;
      readonly secondsLeft?: number;
    }
  | { readonly type: "linear"; readonly layer: number; readonly report: LinearReport }
  | { readonly type: "layer"; readonly layer: number; readonly layers: number; readonly seconds: number; /** Of a source on a Hub, since the run began. */ readonly bytesRead?: number }
  /** How much of a shard is on the Hub, or on its way there. */
  | { readonly type: "upload"; readonly file: string; readonly size: number; readonly sent: number }
  /** The Hub has confirmed a shard; no commit shows it yet. */
  | { readonly type: "uploaded"; readonly file: string; readonly size: number }
  /** All of it is published. `url` is the page to open; `changed` is false where it was there. */
  | { readonly type: "published"; readonly repo: string; readonly url: string; readonly changed: boolean }
  | { readonly type: "shard"; readonly file: string; readonly size: number; readonly sha256: string }
  /** What the run made is there in another of the formats that it is for, in `output`. */
  | { readonly type: "converted"; readonly format: string; readonly output: string; readonly bytes: number; readonly already: boolean }
  | { readonly type: "warning"; readonly message: string }
  | RetryEvent
  | { readonly type: "done"; readonly report: Report; /** The folder held this run's result already. */ readonly already: boolean };
