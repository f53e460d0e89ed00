import { chooseDevice } from "../engine/gpu/choose-device.js";
import { runSurvey, type SurveyEvent, type SurveyResult } from "../pipeline/run-survey.js";
import { openSpillFile } from "../pipeline/spill-file.js";
import { openSource } from "../source/open-source.js";
import { checkDevice, engineOf } from "./engine.js";
import { patienceOf } from "./patience.js";
import type { QuantizeOptions } from "./quantize.js";
import { calibrationText } from "./texts.js";

export interface SurveyOptions extends Omit<QuantizeOptions, "output" | "overwrite" | "onEvent"> {
  readonly onEvent?: (event: SurveyEvent) => void;
}

/**
 * Looks at a model before it is quantized: loud channels, heavy-tailed rows, the error that each linear would have at several bits, and
 * what rounding each group of linears does to the model's predictions; with `targetBits`, how `quantize` would spend them.
 */
export async function survey(options: SurveyOptions): Promise<SurveyResult> {
  const { source: path, calibration, threads, device = "auto", fallback, onEvent, signal, ...settings } = options;
  const start = engineOf(threads);
  checkDevice(device);
  const patience = patienceOf(signal, onEvent);
  const source = await openSource(path, patience);
  try {
    return await runSurvey({
      source, settings,
      calibration: calibrationText(calibration, source, patience),
      engine: async () => {
        const { engine, why } = await chooseDevice(await start(), device, fallback === false);
        onEvent?.({ type: "device", engine: engine.description, why });
        return engine;
      },
      scratch: openSpillFile,
      ...(onEvent && { onEvent }),
      ...(signal && { signal }),
    });
  } finally {
    await source.close();
  }
}
