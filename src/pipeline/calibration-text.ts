import { BUILTIN_ORIGIN } from "../calibration/calibration-set.js";
import { conversationsAndTextsOf, type Document } from "../calibration/documents.js";
import type { TextSource } from "../calibration/sample.js";
import { InputError } from "../errors.js";
import { dataSetAddressOf, type DataSetAddress } from "../source/data-set-address.js";
import type { DataSetFiles } from "../source/data-set-files.js";
import { filesOfSplit } from "../source/data-set-split.js";
import { documentsDrawn } from "../source/data-set.js";
import { matches, type NamedDataSet } from "../source/named-data-set.js";
import type { CalibrationTexts } from "./calibrate.js";

/** The text that comes with Shardsmith, as it is chosen. */
const BUILTIN = "builtin";

/** Not one that people calibrate by: of a set without a part held out, other documents are drawn. */
const EVALUATION_SEED = 2 ** 31;

/** What a model from a Hub is calibrated on unless something else is chosen. */
const HUB_DEFAULT = "c4";

/** Where texts come from; handed in, since nothing here knows of disks and networks. */
export interface TextPlaces {
  isThere(path: string): Promise<boolean>;
  readTextFiles(path: string): Promise<{ readonly name: string; readonly text: string }[]>;
  builtin(): Promise<{ readonly name: string; readonly text: string }[]>;
  named(): Promise<readonly NamedDataSet[]>;
  /** @param folder where all files that matter lie: the others need not be listed */
  dataSet(repo: string, revision?: string, folder?: string): Promise<DataSetFiles>;
}

/**
 * The texts that a choice means: names of sets, files or folders, and data sets on the Hub, joined by commas. Without a choice, it is
 * the built-in text for a model in a folder, and for one on a Hub C4, or the built-in text where that cannot be had.
 * Throws `InputError` for what is none of these, and lists the names.
 */
export async function calibrationTexts(choice: string | undefined, onHub: boolean, places: TextPlaces, seed: number, signal?: AbortSignal): Promise<CalibrationTexts> {
  if (choice !== undefined) return { texts: await chosen(choice, places, seed) };
  if (!onHub) return { texts: await chosen(BUILTIN, places, seed) };
  try {
    const [text] = await chosen(HUB_DEFAULT, places, seed);
    return {
      texts: [await begun(text)],
      why: "the model comes from a Hub, where text of the kind that most models are calibrated on can be had as well; --calibration builtin takes the text that comes with Shardsmith",
    };
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof InputError)) throw error;
    return {
      texts: await chosen(BUILTIN, places, seed),
      why: `${HUB_DEFAULT} could not be read`,
      warnings: [`${HUB_DEFAULT}, which models from a Hub are calibrated on unless something else is chosen, could not be read: ${error.message}. Calibrating on the text that comes with Shardsmith`],
    };
  }
}

async function chosen(choice: string, places: TextPlaces, seed: number): Promise<TextSource[]> {
  const names = (await places.isThere(choice)) ? [choice] : choice.split(",").map((name) => name.trim());
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new InputError(`calibration names ${JSON.stringify(twice)} twice`);
  const texts: TextSource[] = [];
  for (const name of names) texts.push(await textOf(name, places, { what: "calibration", seed, heldOut: false, amongOthers: names.length > 1 }));
  return texts;
}

/**
 * The text to measure on that a name means, of those that `calibrationTexts` takes one by one: of a named set the part that is held out, where it
 * has one. Throws `InputError` as that does.
 */
export function evaluationText(name: string | undefined, places: TextPlaces): Promise<TextSource> {
  return textOf(name ?? BUILTIN, places, { what: "text", seed: EVALUATION_SEED, heldOut: true, amongOthers: false });
}

/** For what a name may mean. */
interface Choosing {
  /** For messages. */
  readonly what: "calibration" | "text";
  readonly seed: number;
  readonly heldOut: boolean;
  readonly amongOthers: boolean;
}

async function textOf(name: string, places: TextPlaces, { what, seed, heldOut, amongOthers }: Choosing): Promise<TextSource> {
  if (name === BUILTIN) return { origin: amongOthers ? BUILTIN : BUILTIN_ORIGIN, documents: conversationsAndTextsOf(await places.builtin()) };
  const all = await places.named();
  const named = all.find((set) => set.name === name);
  if (named !== undefined) return drawnNamed({ ...named, files: (heldOut ? named.heldOut : undefined) ?? named.files }, places, seed);
  if (name !== "" && (await places.isThere(name))) return { origin: name, documents: conversationsAndTextsOf(await places.readTextFiles(name)) };
  const address = dataSetAddressOf(name);
  if (address === undefined) {
    throw new InputError(
      `${what} is ${JSON.stringify(name)}, which is no file or folder, no data set on the Hub (org/name[:config][/split]), and none of these:\n`
        + [{ name: BUILTIN, about: "the text that comes with Shardsmith" }, ...all].map((set) => `  ${set.name.padEnd(14)}${set.about}`).join("\n"),
    );
  }
  return drawn(name, address, places, seed);
}

async function drawnNamed({ name, repo, folder, files: patterns, field, begins, together }: NamedDataSet, places: TextPlaces, seed: number): Promise<TextSource> {
  const files = await places.dataSet(repo, undefined, folder);
  const paths = [...files.files.keys()].filter((path) => patterns.some((pattern) => matches(pattern, path)));
  if (paths.length === 0) throw new InputError(`${files.label}: has no file ${patterns.join(" or ")}, which ${name} stands for; choose another set, or name this one as ${repo}[:config][/split]`);
  const draw = { paths, field, seed, ...(begins !== undefined && { begins: new RegExp(begins) }), ...(together !== undefined && { together }) };
  return { origin: name, dataSet: { repo, commit: files.commit }, documents: documentsDrawn(files, draw) };
}

async function drawn(origin: string, address: DataSetAddress, places: TextPlaces, seed: number): Promise<TextSource> {
  const files = await places.dataSet(address.repo, address.revision).catch((error: unknown) => {
    if (!(error instanceof InputError)) throw error;
    // It may have been meant as a file.
    throw new InputError(`${origin}: no such file or folder, and as a data set on the Hub: ${error.message}`, { cause: error });
  });
  const paths = filesOfSplit(files.files.keys(), address, files.label);
  return { origin, dataSet: { repo: files.repo, commit: files.commit }, documents: documentsDrawn(files, { paths, seed }) };
}

/** The same text with its first document read, so that it is known to be readable. */
async function begun(text: TextSource): Promise<TextSource> {
  const documents = (text.documents as AsyncIterable<Document>)[Symbol.asyncIterator]();
  const first = await documents.next();
  return {
    ...text,
    documents: (async function* () {
      try {
        for (let next = first; next.done !== true; next = await documents.next()) yield next.value;
      } finally {
        await documents.return?.();
      }
    })(),
  };
}
