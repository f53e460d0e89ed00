import { expect, it } from "vitest";
import type { FormatRun, LinearPlan } from "#src/formats/format.js";
import { compressedTensors } from "#src/formats/compressed-tensors.js";
import { gptq } from "#src/formats/gptq.js";

const linear = (name: string, bits: 4 | 8): LinearPlan =>
  ({ name, outFeatures: 64, inFeatures: 64, scheme: { bits, groupSize: 32, symmetric: true, scaleDtype: "F16" } });
const run = (lmHead: 4 | 8 | undefined): FormatRun => ({
  linears: [0, 1].map((layer) => linear(`model.layers.${layer}.mlp.up_proj`, 4)).concat(lmHead === undefined ? [] : [linear("lm_head", lmHead)]),
  groupSize: 32, bits: 4, symmetric: true, method: "rtn", order: "natural", damp: 0.01, lmHead: "lm_head", quantizer: "shardsmith:0",
});

it("is said to GPTQModel, vLLM and SGLang by lm_head and dynamic, and to transformers by a search in all of the model", () => {
  expect(gptq.config(run(undefined)).quantizationConfig).toMatchObject({ lm_head: false });
  expect(gptq.config(run(undefined)).quantizationConfig).not.toHaveProperty("block_name_to_quantize");
  const same = gptq.config(run(4)).quantizationConfig;
  expect(same).toMatchObject({ lm_head: true, block_name_to_quantize: "" });
  expect(same).not.toHaveProperty("dynamic");
  expect(gptq.config(run(8)).quantizationConfig).toMatchObject({ lm_head: true, dynamic: { "+:^lm_head$": { bits: 8, group_size: 32 } } });
});

it("is said to be read wrong where transformers takes it for what the other linears are", () => {
  const scheme = { groupSize: 32, symmetric: false, scaleDtype: "F16" } as const;
  const wrong = "transformers 5 reads asymmetric linears of several bits wrong, without a word; take symmetric ones for it";
  expect(compressedTensors.runNotes([{ ...scheme, bits: 4 }, { ...scheme, bits: 8 }]).map(({ text }) => text)).toContain(wrong);
  expect(compressedTensors.runNotes([{ ...scheme, bits: 4 }, { ...scheme, bits: 4 }])).toEqual([]);
  expect(compressedTensors.runNotes([{ ...scheme, bits: 4, symmetric: true }, { ...scheme, bits: 8, symmetric: true }]).map(({ text }) => text)).not.toContain(wrong);
});

it("is named in compressed-tensors, whose readers take it for no Linear", () => {
  const groups = (lmHead: 4 | 8 | undefined) => {
    const { ignore, config_groups: all } = compressedTensors.config(run(lmHead)).quantizationConfig!;
    return { ignore, targets: Object.values(all as Record<string, { targets: string[] }>).map(({ targets }) => targets) };
  };
  expect(groups(undefined)).toEqual({ ignore: ["lm_head"], targets: [["Linear"]] });
  expect(groups(4)).toEqual({ ignore: [], targets: [["Linear", "re:^lm_head$"]] });
  expect(groups(8)).toEqual({ ignore: [], targets: [["Linear"], ["re:^lm_head$"]] });
});
