import type { Order, QuantScheme } from "#src/quantize/scheme.js";
import { roundToDtype } from "#src/safetensors/floats.js";

// GPTQ as its paper derives it, slow and in doubles: Optimal Brain Quantization in a fixed order, on the explicit inverse of the
// Hessian, from which each finished column is eliminated. No Cholesky factor, no blocks, no transposition.

export interface ReferenceResult {
  readonly codes: number[][];
  readonly scales: number[][];
  readonly zeros: number[][];
  /** Where the scheme has offsets. */
  readonly offsets: number[][];
  /** By super-block, two each. */
  readonly steps: number[][];
  readonly dequantized: number[][];
}

interface ReferenceGrid {
  readonly scale: number;
  readonly zero: number;
  readonly offset?: number;
}

interface ReferenceSteps {
  readonly scale: number;
  readonly offset: number;
}

const BLOCK_GROUPS = 8;

/** Channels of whole groups whose grids belong together. */
export const referenceUnit = ({ groupSize, offsets }: QuantScheme) => (offsets === "super-block" ? BLOCK_GROUPS * groupSize : groupSize);

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

export function referenceHessian(sum: Float32Array, tokens: number, order: Order, groupSize: number, damp: number, unit = groupSize): ReferenceHessian {
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
  const permutation = referenceOrder(order, original, groupSize, unit);
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

export function referenceOrder(order: Order, diagonal: number[], groupSize: number, unit = groupSize): number[] {
  const channels = diagonal.map((_, i) => i);
  const byDiagonal = (a: number, b: number) => diagonal[b] - diagonal[a] || a - b;
  if (order === "natural") return channels;
  if (order === "act") return channels.sort(byDiagonal);
  const largestWithin = (i: number, size: number) => Math.max(...channels.filter((j) => Math.floor(j / size) === Math.floor(i / size)).map((j) => diagonal[j]));
  const byPart = (size: number) => (a: number, b: number) => largestWithin(b, size) - largestWithin(a, size) || Math.floor(a / size) - Math.floor(b / size);
  return channels.sort((a, b) => byPart(unit)(a, b) || byPart(groupSize)(a, b) || byDiagonal(a, b));
}

export function referenceGptq(weight: Float32Array, rows: number, scheme: QuantScheme, search: boolean, h: ReferenceHessian, order: Order): ReferenceResult {
  const n = h.permutation.length;
  const groups = n / scheme.groupSize;
  const table = (cols: number) => Array.from({ length: rows }, () => new Array<number>(cols).fill(0));
  const unit = referenceUnit(scheme);
  const result = {
    codes: table(n), scales: table(groups), zeros: table(groups), offsets: table(scheme.offsets ? groups : 0),
    steps: table(scheme.offsets === "super-block" ? (2 * n) / unit : 0), dequantized: table(n),
  };
  for (let r = 0; r < rows; r++) {
    const w = h.permutation.map((channel) => (h.dead[channel] ? 0 : weight[r * n + channel]));
    let grid: ReferenceGrid = { scale: 1, zero: 0 };
    let steps: ReferenceSteps | undefined;
    for (let p = 0; p < n; p++) {
      const channel = h.permutation[p];
      const group = Math.floor((order === "act" ? p : channel) / scheme.groupSize);
      if (scheme.offsets === "super-block" && p % unit === 0) {
        steps = referenceSteps(w.slice(p, p + unit), scheme);
        const block = Math.floor(group / BLOCK_GROUPS);
        result.steps[r][2 * block] = steps.scale;
        result.steps[r][2 * block + 1] = steps.offset;
      }
      if (p % scheme.groupSize === 0) {
        const members = h.permutation.slice(p, p + scheme.groupSize);
        grid = referenceGrid(w.slice(p, p + scheme.groupSize), members.map((i) => h.diagonal[i]), scheme, search, steps);
        if (scheme.offsets) result.offsets[r][group] = grid.offset!;
        result.scales[r][group] = grid.scale;
        result.zeros[r][group] = grid.zero;
      }
      const code = referenceCode(w[p], grid, scheme);
      const rounded = referenceValue(code, grid);
      result.codes[r][channel] = code;
      result.dequantized[r][channel] = rounded;
      const error = (w[p] - rounded) / h.rows[p][p];
      for (let c = p + 1; c < n; c++) w[c] -= error * h.rows[p][c];
    }
  }
  return result;
}

/** In doubles; −0 leaves −0 as it is. */
const exactValue = (code: number, { scale, zero, offset = -0 }: ReferenceGrid) => scale * (code - zero) + offset;
const referenceValue = (code: number, grid: ReferenceGrid) => Math.fround(exactValue(code, grid));

export function referenceCode(w: number, grid: ReferenceGrid, scheme: QuantScheme): number {
  const x = (w - (grid.offset ?? 0)) / grid.scale;
  const below = Math.floor(x);
  const rest = x - below;
  const rounded = rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
  return Math.min(Math.max(rounded + grid.zero, 0), 2 ** scheme.bits - 1);
}

export function referenceError(w: readonly number[], h: readonly number[], grid: ReferenceGrid, scheme: QuantScheme): number {
  let sum = 0;
  for (let j = 0; j < w.length; j++) {
    const d = w[j] - exactValue(referenceCode(w[j], grid, scheme), grid);
    sum += h[j] * d * d;
  }
  return sum;
}

const falling = (from: number, to: number, by: number): number[] => Array.from({ length: (from - to) / by + 1 }, (_, i) => from - i * by);

/** Hundredths of the spanning step that a search goes through. */
const PERCENTS = {
  2: falling(100, 26, 2), 3: falling(104, 42, 2), 4: [...falling(112, 100, 2), ...falling(99, 70, 1), ...falling(68, 54, 2)], 6: falling(125, 80, 1), 8: falling(125, 94, 1),
} as const;

/** The steps of a super-block, a tenth longer than they must be for its largest scale and offset. */
export function referenceSteps(w: readonly number[], scheme: QuantScheme): ReferenceSteps {
  const groups = Array.from({ length: BLOCK_GROUPS }, (_, k) => w.slice(k * scheme.groupSize, (k + 1) * scheme.groupSize));
  const lowest = groups.map((group) => Math.min(0, ...group));
  const spans = groups.map((group, k) => Math.max(0, ...group) - lowest[k]);
  const step = (largest: number) => Math.max(roundToDtype((1.1 * largest) / 63, scheme.scaleDtype), 2 ** -24);
  return { scale: step(Math.max(...spans) / (2 ** scheme.bits - 1)), offset: step(-Math.min(...lowest)) };
}

const whole = (x: number) => Math.min(Math.max(Math.round(x), 0), 63);

/** Every grid that a search looks at, in its order. */
export function referenceCandidates(w: readonly number[], scheme: QuantScheme, steps?: ReferenceSteps): ReferenceGrid[] {
  const levels = 2 ** scheme.bits;
  const min = Math.min(0, ...w);
  const max = Math.max(0, ...w);
  const list: ReferenceGrid[] = [];
  const percents = PERCENTS[scheme.bits];
  const [from, to] = [percents[0], percents[percents.length - 1]];
  const span = (max - min) / (levels - 1);
  if (scheme.offsets === "super-block") {
    for (let i = 63; i > 0; i--) {
      if (i < whole((span * to) / 100 / steps!.scale) || i > Math.max(1, whole((span * from) / 100 / steps!.scale))) continue;
      const scale = i * steps!.scale;
      for (let j = 0; j <= 63; j++) {
        const [least, most] = [-0.5, 0.5].map((part) => whole(((-min / span || 0) + part) * (scale / steps!.offset)));
        if (j >= least && j <= most) list.push({ scale, zero: 0, offset: -j * steps!.offset });
      }
    }
    return list;
  }
  if (scheme.offsets === "float") {
    for (let eighth = -4; eighth <= 4; eighth++) {
      for (const percent of percents) {
        if (percent % 2 !== 0) continue;
        const scale = roundToDtype((span * percent) / 100, scheme.scaleDtype);
        list.push({ scale, zero: 0, offset: Math.min(-0, roundToDtype((min * percent) / 100 + (eighth / 8) * scale, scheme.scaleDtype)) });
      }
    }
    return list;
  }
  if (scheme.symmetric) {
    // The grid's longer side lies below zero if the scale is positive.
    const longer = max > -min ? -1 : 1;
    for (const sign of scheme.bits < 4 ? [longer, -longer] : [longer]) {
      for (const percent of percents) {
        list.push({ scale: sign * roundToDtype((Math.max(-min, max) / (levels / 2 - 0.5)) * (percent / 100), scheme.scaleDtype), zero: levels / 2 });
      }
    }
    return list;
  }
  for (const shift of [0, -1, 1]) {
    for (const percent of percents) {
      const scale = roundToDtype(((max - min) / (levels - 1)) * (percent / 100), scheme.scaleDtype);
      const zero = Math.min(Math.max(Math.round((-min * percent) / 100 / scale), 0), levels - 1) + shift;
      if (zero >= 0 && zero < levels) list.push({ scale, zero });
    }
  }
  return list;
}

function referenceGrid(w: number[], h: number[], scheme: QuantScheme, search: boolean, steps?: ReferenceSteps): ReferenceGrid {
  const offset = scheme.offsets && -0;
  if (w.every((x) => x === 0)) return { scale: steps?.scale ?? 1, zero: scheme.symmetric ? 2 ** (scheme.bits - 1) : 0, ...(scheme.offsets && { offset }) };
  const candidates = referenceCandidates(w, scheme, steps);
  if (!search && scheme.offsets) {
    const [min, max] = [Math.min(0, ...w), Math.max(0, ...w)];
    const span = (max - min) / (2 ** scheme.bits - 1);
    if (steps === undefined) return { scale: roundToDtype(span, scheme.scaleDtype), zero: 0, offset: roundToDtype(Math.min(-0, min), scheme.scaleDtype) };
    const count = Math.max(1, whole(span / steps.scale));
    return { scale: count * steps.scale, zero: 0, offset: -whole(((-min / span) * count * steps.scale) / steps.offset) * steps.offset };
  }
  if (!search) {
    const { scale, zero } = candidates[PERCENTS[scheme.bits].indexOf(100)];
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
  target: readonly number[], start: Record<"codes" | "scales" | "zeros" | "offsets" | "steps", readonly number[]>,
  scheme: QuantScheme, h: ReferenceHessian, order: Order, sweeps: number,
): Record<"codes" | "scales" | "zeros" | "offsets" | "steps" | "dequantized", number[]> {
  const { damped, permutation } = h;
  const size = scheme.groupSize;
  const codes = [...start.codes];
  const scales = [...start.scales];
  const zeros = [...start.zeros];
  const offsets = [...start.offsets];
  const steps = [...start.steps];
  const groupAt = (p: number) => Math.floor((order === "act" ? p : permutation[p]) / size);
  const groupOf: number[] = [];
  permutation.forEach((channel, p) => (groupOf[channel] = groupAt(p)));
  const gridOf = (k: number): ReferenceGrid => ({ scale: scales[k], zero: zeros[k], ...(scheme.offsets && { offset: offsets[k] }) });
  const value = (i: number) => referenceValue(codes[i], gridOf(groupOf[i]));
  const wanted = target.map((x, i) => (h.dead[i] ? 0 : x));
  const gradient = (i: number) => {
    let sum = 0;
    for (let j = 0; j < wanted.length; j++) sum += damped[i][j] * (wanted[j] - value(j));
    return sum;
  };
  const meanCurve = damped.reduce((sum, x, i) => sum + x[i], 0) / damped.length;
  let state = 12345;
  const random = () => {
    state = Number((BigInt(state) * 1664525n + 1013904223n) % 2n ** 32n);
    return (state / 2 ** 32 - 0.5) * Math.sqrt(3);
  };
  /** What a checkpoint holds that is nearest to a scale and an offset. */
  const held = (k: number) => {
    if (scheme.offsets !== "super-block") return { scale: (x: number) => roundToDtype(x, scheme.scaleDtype), offset: (x: number) => Math.min(-0, roundToDtype(x, scheme.scaleDtype)) };
    const [d, dmin] = steps.slice(2 * Math.floor(k / BLOCK_GROUPS));
    return { scale: (x: number) => d * Math.max(1, whole(x / d)), offset: (x: number) => -dmin * whole(-x / dmin) };
  };
  for (let sweep = 0; sweep < sweeps; sweep++) {
    for (let p = 0; p < target.length; p += size) {
      const members = permutation.slice(p, p + size);
      const k = groupAt(p);
      // The gradient's and the metric's parts along what a scale changes, and what an offset does.
      const along = [members.map((i) => codes[i] - zeros[k]), members.map(() => 1)];
      const slopes = along.map((v) => members.reduce((sum, i, m) => sum + v[m] * gradient(i), 0));
      const inside = members.map((i) => members.map((j) => damped[i][j]));
      const curves = along.map((u) => along.map((v) => inside.reduce((sum, row, m) => sum + u[m] * row.reduce((s, x, l) => s + x * v[l], 0), 0)));
      const [[curve, cross], [, flat]] = curves;
      if (sweep % 3 === 0 && curve > 0) {
        const { scale, offset } = held(k);
        const alone = curve * flat - cross ** 2 <= 1e-6 * curve * flat;
        const step = !scheme.offsets ? slopes[0] / curve : alone ? 0 : inverted(curves)[0].reduce((sum, x, i) => sum + x * slopes[i], 0);
        const dScale = scale(scales[k] + step) - scales[k];
        const dOffset = scheme.offsets ? offset(offsets[k] + (slopes[1] - dScale * cross) / flat) - offsets[k] : 0;
        const gain = 2 * (dScale * slopes[0] + dOffset * slopes[1]) - traceOf([[dScale, dOffset]], curves);
        if (gain > 0) {
          scales[k] += dScale;
          if (scheme.offsets) offsets[k] += dOffset;
        }
      }
      for (const i of members) {
        if (h.dead[i]) continue;
        const temperature = sweeps === 1 ? 0 : 0.12 * Math.min(1, sweeps / 8) * Math.sqrt(1 - sweep / (sweeps - 1));
        const noise = temperature * Math.sqrt(meanCurve / damped[i][i]) * random();
        codes[i] = referenceCode(value(i) + gradient(i) / damped[i][i] + noise * scales[k], gridOf(k), scheme);
      }
    }
  }
  return { codes, scales, zeros, offsets, steps, dequantized: target.map((_, i) => value(i)) };
}
