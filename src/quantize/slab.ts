import type { LinearAlgebra } from "../engine/engine.js";
import { transferring } from "../engine/transferring.js";
import { scaledColumns } from "./awq.js";
import { outputEnergy } from "./energy.js";
import { gptq } from "./gptq.js";
import type { PreparedHessian } from "./hessian.js";
import { refine } from "./refine.js";
import { retargeted, type Retargeting } from "./retarget.js";
import { buffersOf, type RoundedRows } from "./rounded.js";
import { roundToNearest } from "./rtn.js";
import type { QuantScheme } from "./scheme.js";

export const METHODS = ["gptq", "rtn"] as const;
export type Method = (typeof METHODS)[number];

/** What a method does beside its own steps. */
export interface Recipe {
  /** Scale search (`GridChooser`) rather than the grid that spans each group. */
  readonly search: boolean;
  /** Sweeps of coordinate descent after GPTQ, with scales refitted between them (`refine`); 0: none. */
  readonly refine: number;
}

/** Some rows of a linear and how to quantize them: all that a thread needs. */
export interface SlabArgs {
  readonly method: Method;
  /** [rows, inFeatures], finite. */
  readonly weight: Float32Array<ArrayBuffer>;
  readonly rows: number;
  readonly inFeatures: number;
  readonly scheme: QuantScheme;
  readonly recipe: Recipe;
  /** `gptq` needs it; `rtn` weights its scale search by it. Both measure their error in it. */
  readonly hessian?: PreparedHessian;
  /** With a Hessian: the weight is retargeted before it is quantized. */
  readonly retarget?: Retargeting;
  /** s [inFeatures]: the Hessian is that of x / s, and codes and scales are to be those of W·diag(s). What is dequantized is over s again. */
  readonly inputScales?: Float64Array;
}

export interface Slab extends RoundedRows {
  /**
   * What the method minimised. gptq: tr(Δ(H + λI)Δᵀ), dead inputs left out; rtn: the same as `error`.
   */
  readonly loss: number;
  /** tr(Δ·H·Δᵀ), without damping: the squared error of a token's output. Without a Hessian, H = I. */
  readonly error: number;
  /** tr(W·H·Wᵀ), likewise. */
  readonly energy: number;
  readonly seconds: number;
}

/** Quantizes some rows of a linear. Made to be run by `Engine.call`: what comes back is moved. */
export async function quantizeSlab(la: LinearAlgebra, args: SlabArgs) {
  const slab = await computeSlab(la, args);
  return transferring(slab, buffersOf(slab));
}

async function computeSlab(la: LinearAlgebra, { method, weight, rows, inFeatures, scheme, recipe: { search, refine: sweeps }, hessian, retarget, inputScales }: SlabArgs): Promise<Slab> {
  const began = performance.now();
  // What is aimed at, and what errors are measured against.
  const aimed = retarget === undefined ? weight : await retargeted(la, weight, rows, retarget);
  const target = inputScales === undefined ? aimed : scaledColumns(aimed, inputScales);
  const rounded = await round();
  const difference = new Float32Array(target.length);
  for (let i = 0; i < target.length; i++) difference[i] = target[i] - rounded.dequantized[i];
  const error = await outputEnergy(la, difference, rows, inFeatures, hessian);
  const energy = await outputEnergy(la, target, rows, inFeatures, hessian);
  const dequantized = inputScales === undefined ? rounded.dequantized : scaledColumns(rounded.dequantized, inputScales.map((s) => 1 / s));
  return { loss: error, ...rounded, dequantized, error, energy, seconds: (performance.now() - began) / 1000 };

  async function round(): Promise<RoundedRows & { readonly loss?: number }> {
    switch (method) {
      case "rtn":
        return roundToNearest(target, rows, inFeatures, scheme, search, hessian?.diagonal);
      case "gptq":
        if (hessian === undefined) throw new Error("gptq needs a Hessian");
        return refine(la, target, rows, scheme, hessian, await gptq(la, target, rows, scheme, search, hessian), sweeps);
    }
  }
}
