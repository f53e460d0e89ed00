import type { Measured } from "./measurer.js";
import type { Cost } from "./quantize.js";

/** What one quantization left of a model on one text, as it is kept in a file of rows. */
export interface Row extends Measurement, Cost, Measured {
  /** Options of `shardsmith quantize` beside the common ones; empty for a peer. */
  readonly options: string;
  readonly bitsAWeight: number;
  /** Made by another quantizer. */
  readonly peer?: true;
  /** The same, measured by programs that others wrote. */
  readonly byReaders?: Measured;
}

/** What tells rows apart. */
export interface Measurement {
  readonly model: string;
  readonly text: string;
  readonly preset: string;
  readonly bits: number;
  readonly settings: Settings;
}

export interface Settings {
  readonly calibration: string;
  /** Of the calibration tokens: how their SHA-256 begins. */
  readonly tokens: string;
  readonly samples: number;
  readonly sequenceLength: number;
  readonly groupSize: number;
  readonly format: string;
  readonly maxTokens: number;
}

export function sameMeasurement(a: Measurement, b: Measurement): boolean {
  return keyOf(a) === keyOf(b) && a.preset === b.preset && a.bits === b.bits;
}

/** Markdown: a table for each model, text and settings, by bits. */
export function tablesOf(rows: readonly Row[]): string {
  return [...groupsOf(rows)].map(tableOf).join("\n\n");
}

function tableOf(rows: readonly Row[]): string {
  const [{ model, text, tokens, settings, originalPerplexity }] = rows as [Row];
  const { calibration, samples, sequenceLength, groupSize, format } = settings;
  const ordered = [...new Set(rows.map(({ bits }) => bits))].sort((a, b) => b - a).flatMap((bits) => rows.filter((row) => row.bits === bits));
  const lines = ordered.map((row) => {
    const { preset, bits, bitsAWeight, kl, klError, top1, perplexity, perplexityError, seconds, cpuSeconds, peakBytes } = row;
    const plain = plainOf(row, rows);
    return [
      `${preset}, ${bits} bit`, bitsAWeight.toFixed(2), `${small(kl)} ± ${small(klError)}`, plain === undefined ? "" : (kl / plain.kl).toFixed(2), `${(100 * top1).toFixed(1)} %`,
      `${perplexity.toFixed(2)} ± ${perplexityError.toFixed(2)}`, seconds.toFixed(0), cpuSeconds.toFixed(0), `${(peakBytes / 1e9).toFixed(2)} GB`,
    ];
  });
  const byReaders = rows.flatMap((row) => (row.byReaders === undefined || row.peer ? [] : [Math.abs(row.byReaders.kl / row.kl - 1)]));
  return [
    `${model} on ${text}, ${tokens} predicted tokens in windows of ${sequenceLength}; the original's perplexity: ${originalPerplexity.toFixed(2)}.`,
    `Calibrated on ${samples} × ${sequenceLength} tokens of ${calibration}; groups of ${groupSize}; our format: ${format}.`,
    "",
    "| | bits a weight | KL divergence | of plain's | top-1 | perplexity | seconds | CPU seconds | peak RSS |",
    "|---|---|---|---|---|---|---|---|---|",
    ...lines.map((cells) => `| ${cells.join(" | ")} |`),
    ...(byReaders.length === 0 ? [] : ["", `Peers are measured by independent readers, and so were ${byReaders.length} of our rows beside our own measure: KL divergence differs by ${(100 * Math.max(...byReaders)).toPrecision(1)} % at most.`]),
  ].join("\n");
}

/**
 * A line for every preset whose KL divergence exceeds that of plain GPTQ on the same text, at the same bits, by more than the standard
 * error of the difference: of the differences window by window, since both see the same tokens. Rounding to nearest is not held to it.
 */
export function worseThanPlain(rows: readonly Row[]): string[] {
  return groupsOf(rows).flatMap((group) => group.flatMap((row) => {
    const plain = plainOf(row, group);
    if (plain === undefined || row === plain || row.peer || row.preset === "rtn") return [];
    const { difference, error } = compare(row, plain);
    if (difference <= error) return [];
    return [`${row.model} on ${row.text}: ${row.preset} at ${row.bits} bits is worse than plain, KL divergence ${small(row.kl)} for ${small(plain.kl)}; difference ${small(difference)} ± ${small(error)}`];
  }));
}

/** Mean difference a token, and its standard error by windows (a ratio of sums, since windows may differ in length). */
function compare(row: Row, plain: Row): { difference: number; error: number } {
  const tokens = row.windows.reduce((sum, [, n]) => sum + n, 0);
  const differences = row.windows.map(([sum, n], i) => [sum - plain.windows[i][0], n] as const);
  const difference = differences.reduce((sum, [d]) => sum + d, 0) / tokens;
  const count = differences.length;
  // Of a single window nothing can be said but what its tokens say, taken as independent and unpaired.
  if (count < 2) return { difference, error: row.klError + plain.klError };
  const squares = differences.reduce((sum, [d, n]) => sum + (d - difference * n) ** 2, 0);
  return { difference, error: Math.sqrt((squares * count) / (count - 1)) / tokens };
}

function plainOf({ bits }: Row, rows: readonly Row[]): Row | undefined {
  return rows.find((row) => row.preset === "plain" && row.bits === bits);
}

/** Rows that can be compared. */
function groupsOf(rows: readonly Row[]): Row[][] {
  return [...new Set(rows.map(keyOf))].map((key) => rows.filter((row) => keyOf(row) === key));
}

function keyOf({ model, text, settings }: Measurement): string {
  const { calibration, tokens, samples, sequenceLength, groupSize, format, maxTokens } = settings;
  return JSON.stringify([model, text, calibration, tokens, samples, sequenceLength, groupSize, format, maxTokens]);
}

/** Four decimals; where those say nothing, two figures. */
function small(value: number): string {
  return Math.abs(value) >= 0.001 || value === 0 ? value.toFixed(4) : value.toExponential(1);
}
