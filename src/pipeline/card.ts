import { InputError } from "../errors.js";
import { CARD_FILE, modelCard, type CardInput } from "../publish/card.js";
import type { Report } from "../report/report.js";
import type { Evaluation } from "./evaluate.js";
import { REPORT_FILE } from "./standing.js";

/** Where `eval --save` puts what it measured, beside the checkpoint. */
export const EVALUATION_FILE = "shardsmith-eval.json";

/** A small file of a checkpoint; undefined if it is not there. */
type ReadFile = (name: string) => Promise<string | undefined>;

/** An evaluation as it is kept: with the SHA-256 of the shards that it is of, so that it is not taken for that of others. */
export function savedEvaluation(evaluation: Evaluation, { shards }: Report): string {
  return `${JSON.stringify({ shards: shards.map(({ sha256 }) => sha256), ...evaluation }, null, 2)}\n`;
}

/** What was measured of this very checkpoint, if it was and is kept beside it. */
export async function evaluationBeside(read: ReadFile, { shards }: Report): Promise<Evaluation | undefined> {
  const text = await read(EVALUATION_FILE);
  if (text === undefined) return undefined;
  try {
    const { shards: measured, ...evaluation } = JSON.parse(text) as Evaluation & { readonly shards: readonly string[] };
    return measured.join() === shards.map(({ sha256 }) => sha256).join() ? evaluation : undefined;
  } catch {
    // Figures that cannot be read are none.
    return undefined;
  }
}

/**
 * The card of a finished checkpoint, of what lies beside it.
 * @param label of the folder, for messages
 * @param options.existing the card that it is to replace; default the one that lies there
 * Throws `InputError` where the checkpoint is none of ours.
 */
export async function cardBeside(read: ReadFile, label: string, options: Pick<CardInput, "repo" | "existing"> = {}): Promise<string> {
  const report = await reportBeside(read, label);
  const existing = options.existing ?? (await read(CARD_FILE));
  const evaluation = await evaluationBeside(read, report);
  return modelCard({
    report, config: parsed(await read("config.json"), `${label}/config.json`),
    ...(options.repo !== undefined && { repo: options.repo }), ...(existing !== undefined && { existing }), ...(evaluation && { evaluation }),
  });
}

/** The report of a checkpoint that Shardsmith made; throws `InputError` where there is none. */
export async function reportBeside(read: ReadFile, label: string): Promise<Report> {
  const text = await read(REPORT_FILE);
  if (text === undefined) throw new InputError(`${label} has no ${REPORT_FILE}: Shardsmith did not make this checkpoint, or has not finished it`);
  return parsed(text, `${label}/${REPORT_FILE}`) as unknown as Report;
}

function parsed(text: string | undefined, where: string): Record<string, unknown> {
  try {
    return JSON.parse(text ?? "") as Record<string, unknown>;
  } catch {
    throw new InputError(text === undefined ? `${where} is missing` : `${where} is not JSON`);
  }
}
