import { describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { wishesOf } from "#src/pipeline/module-rules.js";

const linears = [0, 1, 10].flatMap((layer) =>
  ["attention in self_attn.q_proj", "attention in self_attn.k_proj", "mlp out mlp.down_proj"].map((line) => {
    const [a, b, module] = line.split(" ");
    return { name: `model.layers.${String(layer)}.${module}`, stage: `${String(layer)} ${a} ${b}` };
  }),
);
const of = (keep: string[], bitsFor: [string, 2 | 3 | 4 | 8][]) => wishesOf({ keep, bitsFor: bitsFor.map(([pattern, bits]) => ({ pattern, bits })) }, linears);

describe("rules for modules", () => {
  it("ask nothing where there are none", () => { expect(of([], [])).toEqual({ of: new Map(), followers: [] }); });
  it("take a star for anything, dots for dots, and the whole name", () => {
    expect([...of([], [["*.down_proj", 8]]).of.keys()]).toEqual(["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj", "model.layers.10.mlp.down_proj"]);
    expect([...of(["model.layers.1.*"], []).of.keys()].every((name) => name.startsWith("model.layers.1."))).toBe(true);
    expect(of(["*"], []).of.size).toBe(9);
    expect(() => of(["model.layers.1.mlp.down"], [])).toThrow(InputError);
    expect(() => of(["modelxlayersx1xmlpxdown_proj"], [])).toThrow(InputError);
  });
  it("let the last that matches count, and keep before bits", () => {
    const { of: wishes } = of(["*.1.mlp.*"], [["*", 8], ["*.down_proj", 2]]);
    expect(wishes.get("model.layers.0.self_attn.k_proj")).toBe(8);
    expect(wishes.get("model.layers.0.mlp.down_proj")).toBe(2);
    expect(wishes.get("model.layers.1.mlp.down_proj")).toBe("keep");
  });
  it("treat siblings alike, by the most that one of them is asked for", () => {
    const { of: wishes, followers } = of(["model.layers.10.self_attn.k_proj"], [["*.q_proj", 3], ["model.layers.1.self_attn.k_proj", 8]]);
    expect([0, 1, 10].map((layer) => ["q", "k"].map((which) => wishes.get(`model.layers.${String(layer)}.self_attn.${which}_proj`)))).toEqual([[3, 3], [8, 8], ["keep", "keep"]]);
    expect(followers).toEqual(["model.layers.0.self_attn.k_proj", "model.layers.1.self_attn.q_proj", "model.layers.10.self_attn.q_proj"]);
  });
  it("name what there is where a pattern matches nothing", () => {
    const names = "model.layers.0.self_attn.q_proj, model.layers.0.self_attn.k_proj, model.layers.0.mlp.down_proj";
    expect(() => of(["lm_head"], [])).toThrow(new InputError(`keep "lm_head" matches none of the linears that would be quantized; they are called ${names}`));
    expect(() => of([], [["*.99.*", 8]])).toThrow(new InputError(`bits for "*.99.*" matches none of the linears that would be quantized; they are called ${names}`));
  });
  it("are matched in no time, however many stars", () => { expect(() => of([`${"*".repeat(60)}x`], [])).toThrow(InputError); });
});
