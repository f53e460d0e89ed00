import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { evaluate, InputError, inspect, quantize, survey, type QuantizeEvent } from "shardsmith";
import { expectedDivergence } from "#src/pipeline/choose-bits.js";
import { DEMO_MODEL, shardsmith } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "target-bits-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });
const HELD_OUT = fileURLToPath(new URL("../fixtures/held-out.txt", import.meta.url));
const FEW = { source: DEMO_MODEL, samples: 4, sequenceLength: 64, groupSize: 32 } as const;
const SLOW = 120_000;

describe("bits to a target", () => {
  it("spend no more than that, close to it, where it counts", async () => {
    const found = await survey({ ...FEW, targetBits: 4.9 });
    const { wishes, bitsPerWeight, divergence } = found.choice!;
    expect(bitsPerWeight).toBeLessThanOrEqual(4.9);
    expect(bitsPerWeight).toBeGreaterThan(4.75);
    for (const { linears } of found.groups) expect(new Set(linears.map(({ name }) => wishes.get(name))).size).toBe(1);
    expect(divergence).toBeCloseTo(found.groups.reduce((sum, group) => sum + expectedDivergence(group, wishes.get(group.linears[0].name)!), 0), 12);
    const uniform = found.groups.reduce((sum, group) => sum + expectedDivergence(group, 4), 0);
    expect(divergence).toBeLessThan(uniform);
  }, SLOW);

  it("make a checkpoint of just those bits, better than the same bits spent blindly", async () => {
    const output = join(root, "target");
    const events: QuantizeEvent[] = [];
    const settings = { ...FEW, method: "rtn", format: "compressed-tensors" } as const;
    const report = await quantize({ ...settings, output, targetBits: 5.5, onEvent: (event) => events.push(event) });
    const { mix } = (await inspect(output)).quantization!;
    expect(mix.map(({ bits }) => bits)).toEqual([8, 4]);
    expect(events.find(({ type }) => type === "choice")).toMatchObject({ targetBits: 5.5, mix });
    expect(report.bitsPerWeight).toBeLessThanOrEqual(5.5);
    expect(report.bitsPerWeight).toBeGreaterThan(5.2);
    // The same numbers of each kind, the last layers first.
    const eight = report.linears.filter(({ quantized }) => quantized!.bits === 8).length;
    const blind = join(root, "blind");
    const names = report.linears.map(({ name }) => name).reverse();
    await quantize({ ...settings, output: blind, bitsFor: names.slice(0, eight).map((pattern) => ({ pattern, bits: 8 as const })) });
    const kl = await Promise.all([output, blind].map(async (model) => (await evaluate({ model, against: DEMO_MODEL, text: HELD_OUT, maxTokens: 4096, sequenceLength: 128 })).against!.klDivergence));
    expect(kl[0]).toBeLessThan(0.8 * kl[1]);
  }, SLOW);

  it("keep to what is asked for by name", async () => {
    const { choice } = await survey({ ...FEW, targetBits: 4.9, bitsFor: [{ pattern: "*.layers.3.*", bits: 2 }], keep: ["*.0.mlp.*"] });
    expect([...choice!.wishes].filter(([name]) => name.includes(".3.")).map(([, wish]) => wish)).toEqual(Array(7).fill(2));
    expect([...choice!.wishes.keys()].some((name) => name.includes(".0.mlp."))).toBe(false);
    expect(choice!.bitsPerWeight).toBeLessThanOrEqual(4.9);
  }, SLOW);

  it("are 6 too, in a format that holds them", async () => {
    const { groups, choice } = await survey({ ...FEW, format: "mlx", targetBits: 6.5 });
    for (const { errors } of groups) {
      expect(errors.map(({ bits }) => bits)).toEqual([2, 3, 4, 6, 8]);
      // A quarter of the step, a sixteenth of the error.
      expect(errors[2].ratio / errors[3].ratio).toBeGreaterThan(12);
    }
    expect(new Set(choice!.wishes.values())).toContain(6);
    expect(choice!.bitsPerWeight).toBeLessThanOrEqual(6.5);
    expect(choice!.bitsPerWeight).toBeGreaterThan(6.3);
  }, SLOW);

  it("are refused below the least, before anything is read", async () => {
    const output = join(root, "never");
    await expect(quantize({ ...FEW, output, format: "compressed-tensors", targetBits: 4.5 })).rejects.toThrow(
      new InputError("target bits is 4.5; these linears take at least 4.51 bits a weight in the compressed-tensors format, scales and all"),
    );
    await expect(quantize({ ...FEW, output, targetBits: 0.5 })).rejects.toThrow(new InputError("target bits is 0.5; it must lie above 1 and be at most 32"));
  });

  it("are chosen once: a run that was interrupted takes up what it chose", async () => {
    const flags = ["--samples", "4", "--sequence-length", "64", "--group-size", "32", "--target-bits", "4.9", "--quality", "fast", "--json"];
    const [output, whole] = [join(root, "resumed"), join(root, "whole")];
    const args = (to: string): string[] => ["quantize", DEMO_MODEL, "-o", to, ...flags];
    const cut = await shardsmith(args(output), (line, kill) => { if (line.includes('"type":"layer"') && line.includes('"layer":1')) kill("SIGKILL"); });
    expect(cut.code).toBe("SIGKILL");
    const again = await shardsmith(args(output));
    const types = again.stdout.trim().split("\n").map((line) => (JSON.parse(line) as QuantizeEvent).type);
    expect(again.code).toBe(0);
    expect(types).not.toContain("survey");
    expect(types).toContain("choice");
    expect((await shardsmith(args(whole))).code).toBe(0);
    expect(readFileSync(join(output, "model.safetensors")).equals(readFileSync(join(whole, "model.safetensors")))).toBe(true);
    const other = await shardsmith([...args(output).slice(0, -1), "--target-bits", "5"]);
    expect(other.code).not.toBe(0);
  }, SLOW);
});
