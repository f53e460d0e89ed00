import { type Device, DEVICES } from "../engine/device.js";
import type { Engine } from "../engine/engine.js";
import { createOnnxEngine } from "../engine/onnx/create-onnx-engine.js";
import { InputError } from "../errors.js";
import type { PreparedRun } from "../pipeline/prepare-run.js";

/** Throws `InputError` for what is no device. */
export function checkDevice(device: Device | undefined): void {
  if (device !== undefined && !DEVICES.includes(device)) throw new InputError(`device is ${JSON.stringify(device)}; it must be one of ${DEVICES.join(", ")}`);
}

/** Nothing is gathered to round to nearest. */
export const gathersHessians = ({ settings }: PreparedRun): boolean => settings.method !== "rtn" || settings.targetBits !== undefined;

/** What makes the engine once it is needed; threads that cannot be are refused now. */
export function engineOf(threads: number | undefined): () => Promise<Engine> {
  if (threads !== undefined && !(Number.isSafeInteger(threads) && threads >= 1)) throw new InputError(`threads is ${String(threads)}; it must be a whole number of at least 1`);
  return () => createOnnxEngine(threads === undefined ? {} : { threads });
}
