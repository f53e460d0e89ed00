import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import { floatsAt, halvesOfBlocks } from "./halves.js";
import { checkNibbles, packNibbles, unpackNibbles } from "./nibbles.js";
import { codeWords, halvesIn } from "./words.js";

/** Weights of a super-block, and of its groups. */
const WEIGHTS = 256;
const GROUP = 32;
const GROUPS = WEIGHTS / GROUP;

/** Halfwords of a super-block: d, dmin, 12 bytes of scales and minimums, and then the nibbles, of two groups at a time. */
const HALVES = 72;
const SCALES_BYTE = 4;
const NIBBLES = 8;
/** Words of the codes of one group while they are a byte each, and halfwords of the nibbles of two. */
const GROUP_WORDS = GROUP / 4;
const PAIR_HALVES = GROUP / 2;

/**
 * Q4_K super-blocks [out, in / 256, 144] of a linear of 4 bits in groups of 32 with offsets of the kind `super-block`: f16 d and dmin, the steps; 8
 * scales and 8 minimums of 6 bits; 256 nibbles; w = (d · scale) · q − dmin · minimum, rounded to float32 once.
 */
export function packQ4_K(name: string, linear: QuantizedLinear): Uint8Array<ArrayBuffer> {
  const { scales, offsets, steps } = linear;
  if (steps === undefined || offsets === undefined) throw new Error(`${name} has no super-blocks`);
  const codes = codeWords(linear.codes);
  const stepHalves = halvesOfBlocks(steps, linear, `the steps of ${name}`);
  const out = new Uint16Array((steps.length / 2) * HALVES);
  const bytes = new Uint8Array(out.buffer);
  let seen = 0;
  for (let block = 0; block < steps.length / 2; block++) {
    const to = block * HALVES;
    const d = steps[2 * block];
    const dmin = steps[2 * block + 1];
    out[to] = stepHalves[2 * block];
    out[to + 1] = stepHalves[2 * block + 1];
    const at = 2 * to + SCALES_BYTE;
    for (let k = 0; k < GROUPS / 2; k++) {
      const first = block * GROUPS + k;
      const later = first + GROUPS / 2;
      const scale = sixBits(scales[first], d, name);
      const minimum = sixBits(-offsets[first], dmin, name);
      const laterScale = sixBits(scales[later], d, name);
      const laterMinimum = sixBits(-offsets[later], dmin, name);
      bytes[at + k] = scale | ((laterScale >> 4) << 6);
      bytes[at + 4 + k] = minimum | ((laterMinimum >> 4) << 6);
      bytes[at + 8 + k] = (laterScale & 15) | ((laterMinimum & 15) << 4);
    }
    for (let pair = 0; pair < GROUPS / 2; pair++) {
      seen |= packNibbles(codes, (block * GROUPS + 2 * pair) * GROUP_WORDS, out, to + NIBBLES + pair * PAIR_HALVES, GROUP_WORDS);
    }
  }
  checkNibbles(seen);
  return bytes;
}

/** How many steps a scale or a minimum is: 0 … 63, to the last bit. */
function sixBits(value: number, step: number, name: string): number {
  const count = step === 0 ? 0 : Math.round(value / step);
  if (!(count >= 0 && count < 64) || count * step !== value) throw new Error(`${name}: ${String(value)} is no whole number of steps of ${String(step)}, 0 … 63`);
  return count;
}

/** The inverse. Throws `InputError` where a step is not finite. */
export function unpackQ4_K(name: string, bytes: Uint8Array<ArrayBuffer>, outFeatures: number, inFeatures: number): QuantizedLinear {
  const packed = halvesIn(bytes);
  const d = floatsAt(packed, 0, HALVES, `the steps of the scales of ${name}`);
  const dmin = floatsAt(packed, 1, HALVES, `the steps of the minimums of ${name}`);
  const codes = new Uint32Array(d.length * GROUPS * GROUP_WORDS);
  const scales = new Float32Array(d.length * GROUPS);
  const offsets = new Float32Array(d.length * GROUPS);
  const steps = new Float32Array(2 * d.length);
  for (let block = 0; block < d.length; block++) {
    steps[2 * block] = d[block];
    steps[2 * block + 1] = dmin[block];
    const at = 2 * block * HALVES + SCALES_BYTE;
    for (let k = 0; k < GROUPS / 2; k++) {
      const [low, high, mixed] = [bytes[at + k], bytes[at + 4 + k], bytes[at + 8 + k]];
      const first = block * GROUPS + k;
      const later = first + GROUPS / 2;
      scales[first] = d[block] * (low & 63);
      offsets[first] = -dmin[block] * (high & 63);
      scales[later] = d[block] * ((mixed & 15) | ((low >> 6) << 4));
      offsets[later] = -dmin[block] * ((mixed >> 4) | ((high >> 6) << 4));
    }
    for (let pair = 0; pair < GROUPS / 2; pair++) {
      unpackNibbles(packed, block * HALVES + NIBBLES + pair * PAIR_HALVES, codes, (block * GROUPS + 2 * pair) * GROUP_WORDS, GROUP_WORDS);
    }
  }
  return {
    outFeatures, inFeatures,
    scheme: { bits: 4, groupSize: GROUP, symmetric: false, scaleDtype: "F16", offsets: "super-block" },
    codes: new Uint8Array(codes.buffer), scales, zeros: new Uint8Array(scales.length), offsets, steps,
  };
}
