import { describe, expect, it } from "vitest";
import { Fields } from "#src/model/fields.js";
import { ropeOf, rotaryTable } from "#src/model/rotary.js";
import { FIXTURES, readJson } from "./golden.js";

interface Case {
  readonly parameters: { readonly rope_type: string; readonly rope_theta: number };
  readonly headDim: number;
  readonly maxPositions: number;
  readonly positions: number;
  readonly original_max_position_embeddings?: number;
  readonly inverseFrequencies: readonly number[];
  readonly attentionFactor: number;
}

const ropeOfCase = ({ parameters, headDim, maxPositions, original_max_position_embeddings: originalPositions }: Case) =>
  ropeOf(Fields.of(parameters, "config.json"), { theta: parameters.rope_theta, headDim, maxPositions, originalPositions });

describe("frequencies and attention factors are those of transformers' modeling_rope_utils", () => {
  const cases = (readJson(`${FIXTURES}rope.json`) as Case[]).map((one) =>
    [`${one.parameters.rope_type}, theta ${one.parameters.rope_theta}, head ${one.headDim}, ${one.positions} positions`, one] as const);
  it.each(cases)("%s", (_, one) => {
    const { inverseFrequencies, attentionFactor } = ropeOfCase(one).at(one.positions);
    expect(inverseFrequencies.length).toBe(one.inverseFrequencies.length);
    const worst = Math.max(...one.inverseFrequencies.map((theirs, i) => Math.abs(inverseFrequencies[i] / theirs - 1)));
    expect(worst).toBeLessThan(5e-7);
    expect(attentionFactor).toBeCloseTo(one.attentionFactor, 12);
  });
});

const base = { theta: 10_000, headDim: 8, maxPositions: 64 };
const rope = (parameters: Record<string, unknown>) => ropeOf(Fields.of(parameters, "config.json"), base);

it("tables hold cosines and sines of position · frequency, times the attention factor", () => {
  const turned = rope({ rope_type: "yarn", factor: 4, attention_factor: 1.5 });
  const { inverseFrequencies } = turned.at(3);
  const cos = rotaryTable(turned, 3, (x) => Math.cos(x));
  const sin = rotaryTable(turned, 3, (x) => Math.sin(x));
  expect(cos.length).toBe(12);
  for (let position = 0; position < 3; position++) {
    for (let i = 0; i < 4; i++) {
      expect(cos[position * 4 + i]).toBeCloseTo(1.5 * Math.cos(position * inverseFrequencies[i]), 6);
      expect(sin[position * 4 + i]).toBeCloseTo(1.5 * Math.sin(position * inverseFrequencies[i]), 6);
    }
  }
});

describe("refuses", () => {
  it.each([
    [{ type: "mrope" }, 'config.json: type is "mrope", which Shardsmith cannot compute; it knows default, linear, dynamic, yarn, longrope, llama3'],
    [{ rope_type: "__proto__" }, 'config.json: rope_type is "__proto__", which Shardsmith cannot compute; it knows default, linear, dynamic, yarn, longrope, llama3'],
    [{ rope_type: 3 }, "config.json: rope_type must be a string, but is 3"],
    [{ rope_type: "linear" }, "config.json: factor is missing; it must be a number above 0"],
    [{ rope_type: "dynamic", factor: -2 }, "config.json: factor must be a number above 0, but is -2"],
    [{ rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 4 }, "config.json: high_freq_factor is 4; it must be above low_freq_factor, which is 4"],
    [{ rope_type: "yarn", truncate: "no" }, 'config.json: truncate must be true or false, but is "no"'],
    [{ rope_type: "longrope", short_factor: [1, 1, 1], long_factor: [1, 1, 1, 1] }, "config.json: short_factor must be a list of 4 numbers above 0, but is [1,1,1]"],
    [{ rope_type: "longrope", original_max_position_embeddings: 1, short_factor: [1, 1, 1, 1], long_factor: [1, 1, 1, 1] },
      'config.json: rope_type is "longrope" with parameters that give frequencies which are not finite'],
    [{ partial_rotary_factor: 0.5 }, "config.json: partial_rotary_factor is 0.5: Shardsmith turns whole heads only"],
  ])("%j", (parameters, message) => {
    expect(() => rope(parameters)).toThrow(expect.objectContaining({ name: "InputError", message }));
  });
});
