/** An input channel that is far louder than most. */
export interface OutlierChannel {
  readonly channel: number;
  /** Its root mean square over the median of all channels'. */
  readonly factor: number;
}

/**
 * Channels whose root mean square is more than `factor` times the median of all, the loudest first. Where more than half are silent
 * there is no median to compare with, and none is named.
 * @param diagonal mean squares [n]: the diagonal of XᵀX / tokens
 */
export function outlierChannels(diagonal: ArrayLike<number>, factor: number): OutlierChannel[] {
  const rms = Float64Array.from(diagonal, (square) => Math.sqrt(Math.max(0, square)));
  const median = rms.slice().sort()[rms.length >> 1];
  if (!(median > 0)) return [];
  return [...rms]
    .map((value, channel) => ({ channel, factor: value / median }))
    .filter((one) => one.factor > factor)
    .sort((a, b) => b.factor - a.factor);
}

/**
 * Kurtosis of each row, E(w − μ)⁴ / (E(w − μ)²)²: 3 for a normal distribution, 1.8 for an even one; the heavier the tails the more.
 * Rows without spread have 0.
 * @param weight [rows, cols]
 */
export function rowKurtosis(weight: Float32Array, rows: number, cols: number): Float64Array {
  return Float64Array.from({ length: rows }, (_, r) => {
    const row = weight.subarray(r * cols, (r + 1) * cols);
    let sum = 0;
    for (const w of row) sum += w;
    const mean = sum / cols;
    let second = 0;
    let fourth = 0;
    for (const w of row) {
      const square = (w - mean) ** 2;
      second += square;
      fourth += square * square;
    }
    return second > 0 ? (fourth * cols) / (second * second) : 0;
  });
}
