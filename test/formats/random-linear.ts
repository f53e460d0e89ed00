import fc from "fast-check";
import { roundToDtype } from "#src/safetensors/floats.js";
import { BITS, type QuantScheme, type ScaleDtype } from "#src/quantize/scheme.js";
import type { QuantizedLinear } from "#src/quantize/quantized-linear.js";
import type { Tensor } from "#src/safetensors/tensor.js";

export interface LinearOptions {
  readonly bits?: readonly QuantScheme["bits"][];
  readonly scaleDtypes: readonly ScaleDtype[];
  /** Input and output channels are multiples of it. */
  readonly channels: number;
  readonly groupSizes: readonly number[];
  readonly actOrder: boolean;
}

/** Random quantized linears that a format can hold. */
export function quantizedLinears({ bits = BITS, scaleDtypes, channels, groupSizes, actOrder }: LinearOptions): fc.Arbitrary<QuantizedLinear> {
  return fc
    .record({
      bits: fc.constantFrom(...bits),
      scaleDtype: fc.constantFrom(...scaleDtypes),
      groupSize: fc.constantFrom(...groupSizes),
      groups: fc.integer({ min: 1, max: 5 }),
      outTiles: fc.integer({ min: 1, max: 5 }),
      symmetric: fc.boolean(),
      act: actOrder ? fc.boolean() : fc.constant(false),
      seed: fc.integer(),
    })
    .map(({ bits, scaleDtype, groupSize, groups, outTiles, symmetric, act, seed }) => {
      const inFeatures = groupSize * groups;
      const outFeatures = outTiles * channels;
      let state = seed | 0;
      const random = (below: number): number => {
        state = (Math.imul(state, 1664525) + 1013904223) | 0;
        return (state >>> 8) % below;
      };
      const groupOf = Int32Array.from({ length: inFeatures }, (_, i) => Math.floor(i / groupSize));
      if (act) {
        for (let i = inFeatures - 1; i > 0; i--) {
          const j = random(i + 1);
          [groupOf[i], groupOf[j]] = [groupOf[j], groupOf[i]];
        }
      }
      const moved = groupOf.some((group, i) => group !== Math.floor(i / groupSize));
      const zeros = Uint8Array.from({ length: outFeatures * groups }, () => (symmetric ? 1 << (bits - 1) : random(1 << bits)));
      return {
        outFeatures,
        inFeatures,
        scheme: { bits, groupSize, symmetric: symmetric || zeros.every((z) => z === 1 << (bits - 1)), scaleDtype },
        codes: Uint8Array.from({ length: outFeatures * inFeatures }, () => random(1 << bits)),
        scales: Float32Array.from({ length: outFeatures * groups }, () => roundToDtype((random(2) - 0.5) * (random(100000) + 1) / 5e5, scaleDtype)),
        zeros,
        ...(moved ? { groupOf } : {}),
      };
    });
}

/** A linear with its arrays as text, which vitest compares fast. */
export function legible(linear: QuantizedLinear): Record<string, unknown> {
  const hex = (array: ArrayBufferView | undefined): string | undefined =>
    array && Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("hex");
  const { codes, scales, zeros, groupOf } = linear;
  return { ...linear, codes: hex(codes), scales: hex(scales), zeros: hex(zeros), groupOf: hex(groupOf) };
}

/** The tensors of the module `m`, by suffix. */
export function bySuffix(tensors: readonly Tensor[]): Map<string, Tensor> {
  return new Map(tensors.map((tensor) => [tensor.name.slice("m.".length), tensor]));
}
