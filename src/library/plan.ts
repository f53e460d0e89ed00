import { availableParallelism } from "node:os";
import type { Device } from "../engine/device.js";
import type { Engine } from "../engine/engine.js";
import { chooseDevice } from "../engine/gpu/choose-device.js";
import { measuredSpeed, secondsOf, type Speed } from "../pipeline/estimate.js";
import type { RetryEvent } from "../pipeline/events.js";
import type { QuantizeSettings } from "../pipeline/options.js";
import { type Overview, overviewOf } from "../pipeline/overview.js";
import type { Plan } from "../pipeline/plan.js";
import { type PreparedRun, prepareRun } from "../pipeline/prepare-run.js";
import { openSource } from "../source/open-source.js";
import { checkDevice, engineOf, gathersHessians } from "./engine.js";
import { patienceOf } from "./patience.js";
import type { QuantizeOptions } from "./quantize.js";

export interface PlanOptions extends QuantizeSettings, Pick<QuantizeOptions, "source" | "threads" | "device" | "signal"> {
  /** Time a matrix product on this machine, for a quarter of a second, on the device that would be taken, and say how long the run will take. Default false. */
  readonly measure?: boolean;
  readonly onEvent?: (event: RetryEvent) => void;
}

export interface PlannedRun {
  readonly plan: Plan;
  /** Bytes of the tensors before, and of the shards after. */
  readonly sourceBytes: number;
  readonly bytes: number;
  readonly shards: readonly { readonly file: string; readonly size: number }[];
  /** Sizes, memory, disk, and which programs load what comes out. */
  readonly overview: Overview;
  /** With `measure`: seconds by what is done in them, reading and writing not counted; and what that stands on. */
  readonly estimate?: ReturnType<typeof secondsOf> & { readonly speed: Speed; readonly engine: string; /** What would gather Hessians, and why; absent where there are none. */ readonly device?: string };
}

/** What `quantize` would do, from headers alone: which linears, at what size, and what stays as it is and why. */
export async function planQuantize(options: PlanOptions): Promise<PlannedRun> {
  const { source: path, measure, threads, device, onEvent, signal, ...settings } = options;
  const engine = engineOf(threads);
  checkDevice(device);
  const source = await openSource(path, patienceOf(signal, onEvent));
  try {
    const prepared = await prepareRun(source, settings);
    const { plan, sourceBytes, bytes, shards } = prepared;
    const estimate = measure === true ? await estimateOf(engine, prepared, device, threads) : undefined;
    return {
      plan, sourceBytes, bytes, shards: shards.map(({ file, size }) => ({ file, size })), overview: await overviewOf(prepared, threads ?? availableParallelism()),
      ...(estimate && { estimate }),
    };
  } finally {
    await source.close();
  }
}

async function estimateOf(start: () => Promise<Engine>, prepared: PreparedRun, device: Device = "auto", threads = availableParallelism()): Promise<NonNullable<PlannedRun["estimate"]>> {
  const calibrated = gathersHessians(prepared);
  const { engine, why, hessians } = await chooseDevice(await start(), calibrated ? device : "cpu", false);
  try {
    const product = await measuredSpeed(engine, threads, prepared.plan.linears.find(({ scheme }) => scheme !== undefined)!);
    const speed = { ...product, ...(hessians && { hessian: await hessians() }) };
    return { ...secondsOf(prepared, speed), speed, engine: engine.description, ...(calibrated && { device: why }) };
  } finally {
    await engine.close();
  }
}
