import type { QuantizedLinear } from "../../quantize/quantized-linear.js";
import { floatsAt, halvesOf } from "./halves.js";
import { codeWords, halvesIn } from "./words.js";

/** Weights of a super-block, and of its groups. */
const WEIGHTS = 256;
const GROUP = 16;
const GROUPS = WEIGHTS / GROUP;
const ZERO = 32;

/** Bytes of a super-block: the lower 4 bits of the codes, their upper 2, a signed scale a group, and d. */
const BYTES = 210;
const HALVES = BYTES / 2;
const UPPER = WEIGHTS / 2;
const SCALES = UPPER + WEIGHTS / 4;
const STEP = SCALES + GROUPS;

/** Codes lie in chunks of 128: four runs of 32, whose words of four codes are packed together. */
const CHUNKS = 2;
const RUN_WORDS = 8;
const CHUNK_WORDS = 4 * RUN_WORDS;

/**
 * Q6_K super-blocks [out, in / 256, 210] of a symmetric linear of 6 bits in groups of 16 whose scales are whole steps: 256 codes, 16 signed bytes of scales,
 * f16 d, the step; w = d · scale · (q − 32).
 */
export function packQ6_K(name: string, linear: QuantizedLinear): Uint8Array<ArrayBuffer> {
  const { scales, steps } = linear;
  if (steps === undefined) throw new Error(`${name} has no super-blocks`);
  const codes = codeWords(linear.codes);
  const stepHalves = halvesOf(steps, `the steps of ${name}`);
  const blocks = steps.length / 2;
  const out = new Uint16Array(blocks * HALVES);
  const bytes = new Int8Array(out.buffer);
  let seen = 0;
  for (let block = 0; block < blocks; block++) {
    const to = block * HALVES;
    for (let chunk = 0; chunk < CHUNKS; chunk++) {
      const from = (block * CHUNKS + chunk) * CHUNK_WORDS;
      const lower = to + chunk * 4 * RUN_WORDS;
      const upper = to + UPPER / 2 + chunk * 2 * RUN_WORDS;
      for (let i = 0; i < RUN_WORDS; i++) {
        const a = codes[from + i];
        const b = codes[from + RUN_WORDS + i];
        const c = codes[from + 2 * RUN_WORDS + i];
        const d = codes[from + 3 * RUN_WORDS + i];
        seen |= a | b | c | d;
        const first = (a & 0x0f0f0f0f) | ((c & 0x0f0f0f0f) << 4);
        const second = (b & 0x0f0f0f0f) | ((d & 0x0f0f0f0f) << 4);
        const high = ((a >>> 4) & 0x03030303) | ((b >>> 2) & 0x0c0c0c0c) | (c & 0x30303030) | ((d << 2) & 0xc0c0c0c0);
        out[lower + 2 * i] = first;
        out[lower + 2 * i + 1] = first >>> 16;
        out[lower + 2 * RUN_WORDS + 2 * i] = second;
        out[lower + 2 * RUN_WORDS + 2 * i + 1] = second >>> 16;
        out[upper + 2 * i] = high;
        out[upper + 2 * i + 1] = high >>> 16;
      }
    }
    for (let k = 0; k < GROUPS; k++) bytes[block * BYTES + SCALES + k] = signedByte(scales[block * GROUPS + k], steps[2 * block], name);
    out[to + STEP / 2] = stepHalves[2 * block];
  }
  if ((seen & 0xc0c0c0c0) !== 0) throw new Error("A code does not fit 6 bits");
  return new Uint8Array(out.buffer);
}

/** How many steps a scale is: −128 … 127, to the last bit. */
function signedByte(scale: number, step: number, name: string): number {
  const count = step === 0 ? 0 : Math.round(scale / step);
  if (!(count >= -128 && count < 128) || count * step !== scale) throw new Error(`${name}: ${String(scale)} is no whole number of steps of ${String(step)}, −128 … 127`);
  return count;
}

/** The inverse. Throws `InputError` where a step is not finite. */
export function unpackQ6_K(name: string, bytes: Uint8Array<ArrayBuffer>, outFeatures: number, inFeatures: number): QuantizedLinear {
  const packed = halvesIn(bytes);
  const counts = new Int8Array(packed.buffer, packed.byteOffset, bytes.length);
  const d = floatsAt(packed, STEP / 2, HALVES, `the steps of ${name}`);
  const codes = new Uint32Array((d.length * WEIGHTS) / 4);
  const scales = new Float32Array(d.length * GROUPS);
  const steps = new Float32Array(2 * d.length);
  const wordAt = (half: number): number => packed[half] | (packed[half + 1] << 16);
  for (let block = 0; block < d.length; block++) {
    steps[2 * block] = d[block];
    for (let k = 0; k < GROUPS; k++) scales[block * GROUPS + k] = d[block] * counts[block * BYTES + SCALES + k];
    for (let chunk = 0; chunk < CHUNKS; chunk++) {
      const to = (block * CHUNKS + chunk) * CHUNK_WORDS;
      const lower = block * HALVES + chunk * 4 * RUN_WORDS;
      const upper = block * HALVES + UPPER / 2 + chunk * 2 * RUN_WORDS;
      for (let i = 0; i < RUN_WORDS; i++) {
        const first = wordAt(lower + 2 * i);
        const second = wordAt(lower + 2 * RUN_WORDS + 2 * i);
        const high = wordAt(upper + 2 * i);
        codes[to + i] = (first & 0x0f0f0f0f) | ((high << 4) & 0x30303030);
        codes[to + RUN_WORDS + i] = (second & 0x0f0f0f0f) | ((high << 2) & 0x30303030);
        codes[to + 2 * RUN_WORDS + i] = ((first >>> 4) & 0x0f0f0f0f) | (high & 0x30303030);
        codes[to + 3 * RUN_WORDS + i] = ((second >>> 4) & 0x0f0f0f0f) | ((high >>> 2) & 0x30303030);
      }
    }
  }
  return {
    outFeatures, inFeatures,
    scheme: { bits: 6, groupSize: GROUP, symmetric: true, scaleDtype: "F16", scales: "super-block" },
    codes: new Uint8Array(codes.buffer), scales, zeros: new Uint8Array(scales.length).fill(ZERO), steps,
  };
}
