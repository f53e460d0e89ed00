import type { SteadyOptions } from "../hub/attempts.js";
import { hubOfEnvironment } from "../hub/environment.js";
import type { CalibrationText } from "../pipeline/calibrate.js";
import { calibrationTexts, type TextPlaces } from "../pipeline/calibration-text.js";
import { commitOf } from "../pipeline/standing.js";
import { openHubDataSet } from "../source/data-set-hub.js";
import { isThere } from "../source/folder.js";
import { hubCacheOfEnvironment } from "../source/hub-cache.js";
import type { Source } from "../source/source.js";
import { builtinCalibrationText, namedDataSets, readTextFiles } from "../source/text-files.js";

/**
 * The texts to calibrate on, once they are asked for.
 * @param begun the journal's first line of a run that is taken up: it goes on with the data sets as they were then
 */
export function calibrationText(choice: string | undefined, source: Source, patience: SteadyOptions, begun?: string): CalibrationText {
  return (seed) => calibrationTexts(choice, source.hub !== undefined, placesOf(patience, begun), seed, patience.signal);
}

/** Where texts come from: files, what comes with the package, the Hub and its cache. */
export function placesOf(patience: SteadyOptions, begun?: string): TextPlaces {
  return {
    isThere, readTextFiles, builtin: builtinCalibrationText, named: namedDataSets,
    dataSet: async (repo, revision, folder) => {
      const hub = await hubOfEnvironment();
      const options = { ...patience, cache: hubCacheOfEnvironment(), ...(folder !== undefined && { folder }) };
      const open = (wanted: string | undefined) => openHubDataSet(hub, repo, wanted, options);
      const commit = revision === undefined && begun !== undefined ? commitOf(begun, repo, "data sets") : undefined;
      // That commit may have been rewritten away: then it is another run, which says so.
      return commit === undefined ? open(revision) : open(commit).catch(() => open(revision));
    },
  };
}
