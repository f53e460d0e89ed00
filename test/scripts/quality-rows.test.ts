import { describe, expect, it } from "vitest";
import { sameMeasurement, tablesOf, worseThanPlain, type Row } from "../../scripts/quality/rows.js";

const settings = { calibration: "c4.txt", tokens: "abc", samples: 64, sequenceLength: 1024, groupSize: 64, format: "gptq", maxTokens: 4000 };

/** KL divergences of four windows of 1,000 tokens. */
function row(preset: string, means: readonly number[], more: Partial<Row> = {}): Row {
  const kl = means.reduce((sum, mean) => sum + mean, 0) / means.length;
  return {
    model: "m", text: "t.txt", preset, bits: 4, settings, options: "", bitsAWeight: 4.31, seconds: 61.4, cpuSeconds: 100.2, peakBytes: 1.5e9,
    kl, klError: 0.01, top1: 0.75, perplexity: 20, perplexityError: 0.5, originalPerplexity: 18, tokens: 1000 * means.length,
    windows: means.map((mean) => [1000 * mean, 1000] as const), ...more,
  };
}

describe("the check against plain", () => {
  const plain = row("plain", [0.2, 0.4, 0.3, 0.5]);

  it("pairs windows: a small difference counts where every window shows it", () => {
    // The windows themselves lie 0.13 apart. Differences: 0.01, 0.01, 0.012, 0.012; mean 0.011, standard deviation 0.001155, of the mean half of it.
    expect(worseThanPlain([plain, row("fast", [0.21, 0.41, 0.312, 0.512])])).toEqual([
      "m on t.txt: fast at 4 bits is worse than plain, KL divergence 0.3610 for 0.3500; difference 0.0110 ± 5.8e-4",
    ]);
  });

  it("lets a difference pass that windows do not agree on", () => {
    // Mean 0.01, of differences 0.11, -0.09, 0.11, -0.09.
    expect(worseThanPlain([plain, row("fast", [0.31, 0.31, 0.41, 0.41])])).toEqual([]);
  });

  it("weighs windows by their tokens", () => {
    // 0.1 worse on 10 tokens, 0.01 better on 1,000.
    const windows = [[2, 10], [200, 1000]] as const;
    expect(worseThanPlain([row("plain", [], { kl: 0.2, tokens: 1010, windows }), row("fast", [], { kl: 0.191, tokens: 1010, windows: [[3, 10], [190, 1000]] })])).toEqual([]);
  });

  it("compares nothing across bits, texts and settings, and holds neither rounding nor peers to it", () => {
    const worse = [0.9, 0.9, 0.9, 0.9];
    expect(worseThanPlain([
      plain, row("rtn", worse), row("autoround", worse, { peer: true }), row("fast", worse, { bits: 2 }), row("fast", worse, { text: "u.txt" }),
      row("fast", worse, { settings: { ...settings, samples: 8 } }),
    ])).toEqual([]);
    expect(worseThanPlain([plain, row("fast", worse)])).toHaveLength(1);
  });
});

it("knows a measurement by model, text, preset, bits and settings, in whatever order the settings come", () => {
  const { maxTokens, ...others } = settings;
  expect(sameMeasurement(row("fast", [1]), row("fast", [2], { settings: { maxTokens, ...others } }))).toBe(true);
  expect(sameMeasurement(row("fast", [1]), row("fast", [1], { bits: 3 }))).toBe(false);
  expect(sameMeasurement(row("fast", [1]), row("best", [1]))).toBe(false);
  expect(sameMeasurement(row("fast", [1]), row("fast", [1], { settings: { ...settings, tokens: "abd" } }))).toBe(false);
});

it("prints a table a text, by bits, with what the readers found", () => {
  const plain = row("plain", [0.2, 0.4]);
  const fast = row("fast", [0.1, 0.2], { byReaders: row("fast", [0.1, 0.2003]) });
  const table = tablesOf([row("plain", [0.8], { bits: 2 }), plain, fast, row("fast", [0.2], { text: "u.txt" })]);
  expect(table).toContain("| plain, 4 bit | 4.31 | 0.3000 ± 0.0100 | 1.00 | 75.0 % | 20.00 ± 0.50 | 61 | 100 | 1.50 GB |\n| fast, 4 bit | 4.31 | 0.1500 ± 0.0100 | 0.50 |");
  expect(table.indexOf("plain, 4 bit")).toBeLessThan(table.indexOf("plain, 2 bit"));
  expect(table).toContain("KL divergence differs by 0.1 % at most");
  expect(table.split("| bits a weight |")).toHaveLength(3);
});
