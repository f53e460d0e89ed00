import type { Order, QuantScheme } from "#src/quantize/scheme.js";
import { roundToDtype } from "#src/safetensors/floats.js";

// GPTQ as its paper derives it, slow and in doubles: Optimal Brain Quantization in a fixed order, on the explicit inverse of the
// Hessian, from which each finished column is eliminated. No Cholesky factor, no blocks, no transposition.

export interface ReferenceResult {
  readonly codes: number[][];
  readonly scales: number[][];
  readonly zeros: number[][];
  readonly dequantized: number[][];
}

/** What the reference keeps of a Hessian: everything that does not depend on the weights. */
export interface ReferenceHessian {
  readonly permutation: number[];
  readonly dead: boolean[];
  /** Row p of the inverse at the time column p is rounded. */
  readonly rows: Float64Array[];
  /** diag(H + λI) by channel. */
  readonly diagonal: number[];
  /** H + λI by channel. */
  readonly damped: number[][];
}

export function referenceHessian(sum: Float32Array, tokens: number, order: Order, groupSize: number, damp: number): ReferenceHessian {
  const n = Math.sqrt(sum.length);
  const h = Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => sum[i * n + j] / tokens));
  const original = h.map((row, i) => row[i]);
  const dead = original.map((d) => d === 0);
  const live = original.filter((d) => d > 0);
  const mean = live.reduce((a, b) => a + b, 0) / live.length;
  for (let i = 0; i < n; i++) {
    if (dead[i]) h[i][i] = mean;
    h[i][i] += damp * mean;
  }
  const permutation = referenceOrder(order, original, groupSize);
  const inverse = inverted(permutation.map((i) => permutation.map((j) => h[i][j])));
  const rows: Float64Array[] = [];
  for (let p = 0; p < n; p++) {
    const row = inverse[p].slice();
    rows.push(row);
    for (const r of inverse) {
      const factor = r[p] / row[p];
      for (let c = 0; c < n; c++) r[c] -= factor * row[c];
    }
  }
  return { permutation, dead, rows, diagonal: h.map((row, i) => row[i]), damped: h };
}

export function referenceOrder(order: Order, diagonal: number[], groupSize: number): number[] {
  const channels = diagonal.map((_, i) => i);
  const byDiagonal = (a: number, b: number) => diagonal[b] - diagonal[a] || a - b;
  if (order === "natural") return channels;
  if (order === "act") return channels.sort(byDiagonal);
  const largest = (group: number) => Math.max(...channels.filter((i) => Math.floor(i / groupSize) === group).map((i) => diagonal[i]));
  return Array.from({ length: diagonal.length / groupSize }, (_, k) => k)
    .sort((a, b) => largest(b) - largest(a) || a - b)
    .flatMap((k) => channels.filter((i) => Math.floor(i / groupSize) === k).sort(byDiagonal));
}

export function referenceGptq(weight: Float32Array, rows: number, scheme: QuantScheme, search: boolean, h: ReferenceHessian, order: Order): ReferenceResult {
  const n = h.permutation.length;
  const groups = n / scheme.groupSize;
  const table = (cols: number) => Array.from({ length: rows }, () => new Array<number>(cols).fill(0));
  const result = { codes: table(n), scales: table(groups), zeros: table(groups), dequantized: table(n) };
  for (let r = 0; r < rows; r++) {
    const w = h.permutation.map((channel) => (h.dead[channel] ? 0 : weight[r * n + channel]));
    let grid = { scale: 1, zero: 0 };
    for (let p = 0; p < n; p++) {
      const channel = h.permutation[p];
      const group = Math.floor((order === "act" ? p : channel) / scheme.groupSize);
      if (p % scheme.groupSize === 0) {
        const members = h.permutation.slice(p, p + scheme.groupSize);
        grid = referenceGrid(w.slice(p, p + scheme.groupSize), members.map((i) => h.diagonal[i]), scheme, search);
        result.scales[r][group] = grid.scale;
        result.zeros[r][group] = grid.zero;
      }
      const code = referenceCode(w[p], grid, scheme);
      const rounded = grid.scale * (code - grid.zero);
      result.codes[r][channel] = code;
      result.dequantized[r][channel] = rounded;
      const error = (w[p] - rounded) / h.rows[p][p];
      for (let c = p + 1; c < n; c++) w[c] -= error * h.rows[p][c];
    }
  }
  return result;
}

export function referenceCode(w: number, grid: { scale: number; zero: number }, scheme: QuantScheme): number {
  const x = w / grid.scale;
  const below = Math.floor(x);
  const rest = x - below;
  const rounded = rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
  return Math.min(Math.max(rounded + grid.zero, 0), 2 ** scheme.bits - 1);
}

export function referenceError(w: readonly number[], h: readonly number[], grid: { scale: number; zero: number }, scheme: QuantScheme): number {
  let sum = 0;
  for (let j = 0; j < w.length; j++) {
    const d = w[j] - grid.scale * (referenceCode(w[j], grid, scheme) - grid.zero);
    sum += h[j] * d * d;
  }
  return sum;
}

/** Hundredths of the spanning step that a search goes through: from, to, step. */
const PERCENTS = { 2: [100, 26, 2], 3: [104, 40, 2], 4: [113, 54, 1], 8: [125, 86, 1] } as const;

/** Every grid that a search looks at, in its order. */
export function referenceCandidates(w: readonly number[], scheme: QuantScheme): { scale: number; zero: number }[] {
  const levels = 2 ** scheme.bits;
  const min = Math.min(0, ...w);
  const max = Math.max(0, ...w);
  const list: { scale: number; zero: number }[] = [];
  const [from, to, by] = PERCENTS[scheme.bits];
  if (scheme.symmetric) {
    // The grid's longer side lies below zero if the scale is positive.
    const longer = max > -min ? -1 : 1;
    for (const sign of scheme.bits < 4 ? [longer, -longer] : [longer]) {
      for (let percent = from; percent >= to; percent -= by) {
        list.push({ scale: sign * roundToDtype((Math.max(-min, max) / (levels / 2 - 0.5)) * (percent / 100), scheme.scaleDtype), zero: levels / 2 });
      }
    }
    return list;
  }
  for (const shift of [0, -1, 1]) {
    for (let percent = from; percent >= to; percent -= by) {
      const scale = roundToDtype(((max - min) / (levels - 1)) * (percent / 100), scheme.scaleDtype);
      const zero = Math.min(Math.max(Math.round((-min * percent) / 100 / scale), 0), levels - 1) + shift;
      if (zero >= 0 && zero < levels) list.push({ scale, zero });
    }
  }
  return list;
}

function referenceGrid(w: number[], h: number[], scheme: QuantScheme, search: boolean): { scale: number; zero: number } {
  if (w.every((x) => x === 0)) return { scale: 1, zero: scheme.symmetric ? 2 ** (scheme.bits - 1) : 0 };
  const candidates = referenceCandidates(w, scheme);
  if (!search) {
    const [from, , by] = PERCENTS[scheme.bits];
    const { scale, zero } = candidates[(from - 100) / by];
    return { scale: Math.abs(scale), zero };
  }
  const errors = candidates.map((grid) => referenceError(w, h, grid, scheme));
  return candidates[errors.indexOf(Math.min(...errors))];
}

/** Gauss-Jordan with row exchange. */
export function inverted(matrix: readonly (readonly number[])[]): Float64Array[] {
  const n = matrix.length;
  const a = matrix.map((row, i) => Float64Array.from([...row, ...row.map((_, j) => (i === j ? 1 : 0))]));
  for (let p = 0; p < n; p++) {
    let pivot = p;
    for (let r = p; r < n; r++) if (Math.abs(a[r][p]) > Math.abs(a[pivot][p])) pivot = r;
    [a[p], a[pivot]] = [a[pivot], a[p]];
    a[p] = a[p].map((x) => x / a[p][p]);
    for (let r = 0; r < n; r++) {
      const factor = a[r][p];
      if (r !== p && factor !== 0) for (let c = p; c < 2 * n; c++) a[r][c] -= factor * a[p][c];
    }
  }
  return a.map((row) => row.slice(n));
}

/** tr(D·H·Dᵀ), D [rows, n] */
export function traceOf(d: readonly (readonly number[])[], h: readonly (readonly number[])[]): number {
  return d.reduce((total, row) => total + row.reduce((sum, x, i) => sum + x * row.reduce((s, y, j) => s + h[i][j] * y, 0), 0), 0);
}

/** One row's descent as `refine` defines it: every gradient summed anew, one step after the other. */
export function referenceRefine(
  target: readonly number[], start: { codes: readonly number[]; scales: readonly number[]; zeros: readonly number[] },
  scheme: QuantScheme, h: ReferenceHessian, order: Order, sweeps: number,
): { codes: number[]; scales: number[]; zeros: number[]; dequantized: number[] } {
  const { damped, permutation } = h;
  const size = scheme.groupSize;
  const codes = [...start.codes];
  const scales = [...start.scales];
  const zeros = [...start.zeros];
  const groupAt = (p: number) => Math.floor((order === "act" ? p : permutation[p]) / size);
  const groupOf: number[] = [];
  permutation.forEach((channel, p) => (groupOf[channel] = groupAt(p)));
  const value = (i: number) => scales[groupOf[i]] * (codes[i] - zeros[groupOf[i]]);
  const gradient = (i: number) => damped[i].reduce((sum, x, j) => sum + x * ((h.dead[j] ? 0 : target[j]) - value(j)), 0);
  const meanCurve = damped.reduce((sum, x, i) => sum + x[i], 0) / damped.length;
  let state = 12345;
  const random = () => {
    state = Number((BigInt(state) * 1664525n + 1013904223n) % 2n ** 32n);
    return (state / 2 ** 32 - 0.5) * Math.sqrt(3);
  };
  for (let sweep = 0; sweep < sweeps; sweep++) {
    for (let p = 0; p < target.length; p += size) {
      const members = permutation.slice(p, p + size);
      const k = groupAt(p);
      const c = members.map((i) => codes[i] - zeros[k]);
      const slope = members.reduce((sum, i, m) => sum + c[m] * gradient(i), 0);
      const curve = traceOf([c], members.map((i) => members.map((j) => damped[i][j])));
      if (curve > 0) {
        const scale = scales[k];
        const fitted = roundToDtype(scale + slope / curve, scheme.scaleDtype);
        if ((fitted - scale) * (2 * slope - (fitted - scale) * curve) > 0) scales[k] = fitted;
      }
      for (const i of members) {
        if (h.dead[i]) continue;
        const temperature = sweeps === 1 ? 0 : 0.12 * Math.min(1, sweeps / 8) * Math.sqrt(1 - sweep / (sweeps - 1));
        const noise = temperature * Math.sqrt(meanCurve / damped[i][i]) * random();
        codes[i] = referenceCode(value(i) + gradient(i) / damped[i][i] + noise * scales[k], { scale: scales[k], zero: zeros[k] }, scheme);
      }
    }
  }
  return { codes, scales, zeros, dequantized: target.map((_, i) => value(i)) };
}
