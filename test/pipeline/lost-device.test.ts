import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Engine } from "#src/engine/engine.js";
import { DeviceLost } from "#src/engine/device-lost.js";
import { createOnnxEngine } from "#src/engine/onnx/create-onnx-engine.js";
import { openFolderSink } from "#src/pipeline/folder-sink.js";
import type { QuantizeSettings } from "#src/pipeline/options.js";
import { prepareRun } from "#src/pipeline/prepare-run.js";
import { runQuantize } from "#src/pipeline/quantize.js";
import type { Report } from "#src/report/report.js";
import { openFolder } from "#src/source/folder.js";

const MODEL = fileURLToPath(new URL("../fixtures/demo-model", import.meta.url));
const TEXT = "A device may be lost at any moment of a run, and nobody should have to notice but by a line that says so. ".repeat(200);
const folder = mkdtempSync(join(tmpdir(), "lost-device-"));
afterAll(() => { rmSync(folder, { recursive: true, force: true }); });

/** An engine with a device whose every Hessian is lost at its end or, with `atOnce`, as it is to be made; made again, each comes from the engine itself. */
function failing(engine: Engine, atOnce: boolean): Engine {
  let made = 0;
  const lost = new DeviceLost("A card", "it was pulled out");
  const next = async <A extends { finish(): Promise<unknown> }>(make: () => Promise<A>): Promise<A> => {
    const fails = made++ % 2 === 0;
    if (fails && atOnce) throw lost;
    const accumulator = await make();
    return fails ? { ...accumulator, finish: () => accumulator.finish().then(() => Promise.reject(lost)) } : accumulator;
  };
  return { ...engine, hessian: (width) => next(() => engine.hessian(width)), crossHessian: (width) => next(() => engine.crossHessian(width)) };
}

/** An engine with a device on which every linear is lost once, with what it was given. */
function losingLinears(engine: Engine): Engine {
  let slabs = 0;
  return {
    ...engine,
    async call<R>(moduleUrl: string, exportName: string, args: readonly unknown[], transfer?: readonly ArrayBuffer[]): Promise<R> {
      const result = await engine.call<R>(moduleUrl, exportName, args, transfer);
      if (exportName === "quantizeSlab" && slabs++ % 2 === 0) throw new DeviceLost("A card", "it was pulled out");
      return result;
    },
  };
}

describe("a device that is lost", () => {
  const settings: QuantizeSettings = { groupSize: 32, samples: 4, sequenceLength: 32, quality: "fast", refine: 0, awq: false };
  let untroubled: Buffer;
  beforeAll(async () => {
    await quantized("untroubled", settings);
    untroubled = weightsOf("untroubled");
  });

  const weightsOf = (name: string): Buffer => readFileSync(join(folder, name, "model.safetensors"));
  async function quantized(name: string, with_: QuantizeSettings, engine: (made: Engine) => Engine = (made) => made): Promise<Report> {
    const source = await openFolder(MODEL);
    const sink = await openFolderSink(join(folder, name));
    try {
      return await runQuantize({
        source, sink, prepared: await prepareRun(source, with_),
        engine: async () => engine(await createOnnxEngine({ threads: 1 })),
        calibration: () => Promise.resolve({ texts: [{ origin: "the test", documents: [TEXT] }] }),
      });
    } finally {
      await sink.close();
      await source.close();
    }
  }

  it.each([["at its end", false], ["as it is begun", true]])("with every Hessian, %s, changes no byte, and is told", async (when, atOnce) => {
    const { warnings, linears } = await quantized(when, settings, (engine) => failing(engine, atOnce));
    expect(weightsOf(when).equals(untroubled)).toBe(true);
    expect(warnings).toHaveLength(4 * 4);
    expect(warnings[0]).toBe("model.layers.0.self_attn.q_proj, model.layers.0.self_attn.k_proj, model.layers.0.self_attn.v_proj: A card failed: it was pulled out; the Hessian is gathered without it");
    expect(new Set(linears.map(({ quantized: how }) => how?.device))).toEqual(new Set(["CPU"]));
  });

  it("while two streams are gathered, and hidden states lie in files, changes no byte", async () => {
    const two: QuantizeSettings = { ...settings, retarget: true, memory: 100_000 };
    await quantized("two", two);
    await quantized("two troubled", two, (engine) => failing(engine, false));
    expect(weightsOf("two troubled").equals(weightsOf("two"))).toBe(true);
  });

  it("with every linear changes no byte, and is told", async () => {
    const { warnings } = await quantized("linears", settings, losingLinears);
    expect(weightsOf("linears").equals(untroubled)).toBe(true);
    expect(warnings).toHaveLength(28);
    expect(warnings[0]).toBe("model.layers.0.self_attn.q_proj: A card failed: it was pulled out; it is quantized without it");
  });

  it("in a survey changes none of its choices", async () => {
    const target: QuantizeSettings = { ...settings, targetBits: 4.5 };
    await quantized("target", target);
    const { warnings } = await quantized("target troubled", target, (engine) => failing(engine, false));
    expect(weightsOf("target troubled").equals(weightsOf("target"))).toBe(true);
    expect(warnings[0]).toBe("A card failed: it was pulled out; the survey goes on without it");
  });
});
