import type { FormatRun } from "../formats/format.js";
import { formatByName } from "../formats/formats.js";
import { CARD_FILE, modelCard } from "../publish/card.js";
import type { Publisher } from "../publish/publisher.js";
import type { Report } from "../report/report.js";
import type { JsonObject } from "../safetensors/json.js";
import type { Checkpoint } from "../source/checkpoint.js";
import { evaluationBeside } from "./card.js";
import { carriedFiles } from "./carried-files.js";
import type { PreparedRun } from "./prepare-run.js";
import { published, standingCard, type PushEvent } from "./push.js";
import type { Sink } from "./sink.js";
import { REPORT_FILE } from "./standing.js";

/** A checkpoint whose shards are written, and what is known of it. */
export interface Unsealed extends Pick<PreparedRun, "files" | "configKeys"> {
  readonly sink: Sink;
  /** What it was made of: its tokenizer and other files go along. */
  readonly from: Checkpoint;
  /** config.json of the model, without what a format adds. */
  readonly config: Readonly<JsonObject>;
  readonly format: string;
  readonly run: FormatRun;
  /** Called when nothing more is read. */
  readonly report: () => Report;
  /** Where it is published as well, once `sent` says that all shards are there. */
  readonly publish?: { readonly publisher: Publisher; readonly sent: () => Promise<void> };
  readonly emit: (event: PushEvent) => void;
}

/** Writes everything that makes a checkpoint loadable, config.json last, and its report. */
export async function seal({ sink, from, config: plain, format, run, files, configKeys, report: reported, publish, emit }: Unsealed): Promise<Report> {
  const written = new Map<string, Uint8Array>();
  const write = async (name: string, content: Uint8Array): Promise<void> => {
    await sink.writeFile(name, content);
    written.set(name, content);
  };
  const told = formatByName(format).config(run, plain);
  for (const name of carriedFiles(from.files.keys())) await write(name, await from.readFile(name));
  const sourceCard = from.files.has(CARD_FILE) ? new TextDecoder().decode(await from.readFile(CARD_FILE)) : undefined;
  const report = reported();
  for (const [name, value] of Object.entries(told.files)) await write(name, json(value));
  for (const [name, content] of files) await write(name, content);
  const config = { ...plain, ...told.configKeys, ...configKeys, ...(told.quantizationConfig && { quantization_config: told.quantizationConfig }) };
  const local = await sink.readFile(CARD_FILE);
  // What a person wrote in a card that stands in its place stays.
  const existing = publish === undefined ? local : await standingCard(local, publish.publisher, emit);
  const evaluation = await evaluationBeside((name) => sink.readFile(name), report);
  const card = modelCard({
    report, config, ...(publish && { repo: publish.publisher.repo }), ...(sourceCard !== undefined && { sourceCard }), ...(existing !== undefined && { existing }), ...(evaluation && { evaluation }),
  });
  await write(CARD_FILE, new TextEncoder().encode(card));
  await write("config.json", json(config));
  await write(REPORT_FILE, json(report));
  if (publish !== undefined) {
    await publish.sent();
    await published(publish.publisher, written, emit);
  }
  await sink.complete();
  return report;
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}
