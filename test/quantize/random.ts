/** A small deterministic generator (mulberry32), so that a failing case fails again. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function gaussian(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

export function gaussians(length: number, random: () => number, deviation = 1): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length }, () => gaussian(random) * deviation);
}

/**
 * Activations [tokens, n] as a model has them, roughly: every channel carries some of a few common signals, and its own size.
 * Channels in `dead` are zero.
 */
export function activations(tokens: number, n: number, random: () => number, dead: readonly number[] = []): Float32Array<ArrayBuffer> {
  const signals = Math.max(1, Math.floor(n / 8));
  const mix = gaussians(signals * n, random, 1 / Math.sqrt(signals));
  const size = Float64Array.from({ length: n }, (_, i) => (dead.includes(i) ? 0 : 0.3 + random() * random() * 3));
  const x = new Float32Array(tokens * n);
  for (let t = 0; t < tokens; t++) {
    const signal = gaussians(signals, random);
    for (let i = 0; i < n; i++) {
      let sum = gaussian(random) * 0.7;
      for (let s = 0; s < signals; s++) sum += signal[s] * mix[s * n + i];
      x[t * n + i] = sum * size[i];
    }
  }
  return x;
}

/** XᵀX [n, n] */
export function gram(x: Float32Array, tokens: number, n: number): Float32Array<ArrayBuffer> {
  const sum = new Float64Array(n * n);
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) sum[i * n + j] += x[t * n + i] * x[t * n + j];
    }
  }
  return new Float32Array(sum);
}
