import { InputError } from "../errors.js";
import { CARD_FILE, ownText } from "../publish/card.js";
import type { LargeFile, Published, Publisher } from "../publish/publisher.js";
import { cardBeside, reportBeside } from "./card.js";
import type { QuantizeEvent } from "./events.js";
import type { FinishedFiles } from "./sink.js";
import { REPORT_FILE } from "./standing.js";

/** What publishing tells while it works. */
export type PushEvent = Extract<QuantizeEvent, { readonly type: "upload" | "uploaded" | "published" | "warning" | "retry" }>;

/** Sent as it lies on the disk, and hashed, instead of being held in memory. */
const LARGE_BYTES = 10 << 20;
const WEIGHTS = /\.(safetensors|gguf|bin|onnx|pt|pth|ckpt|h5|msgpack|npz)$/i;

/**
 * Publishes the files of a finished checkpoint. What the Hub has is not sent. Shards that Shardsmith wrote must be as its report has them;
 * those that are gone must be on the Hub. Throws `InputError`.
 * @param open called once the files are known to be good
 */
export async function publishFinished(files: FinishedFiles, open: () => Promise<Publisher>, emit: (event: PushEvent) => void): Promise<Published> {
  const found = await files.list();
  const report = found.has(REPORT_FILE) ? await reportBeside((name) => files.readFile(name), files.label) : undefined;
  const reported = new Map(report?.shards.map(({ file, size, sha256 }) => [file, { name: file, size, sha256 }]) ?? []);
  const large: LargeFile[] = [...reported.values()];
  for (const [name, size] of found) if (!reported.has(name) && (WEIGHTS.test(name) || size > LARGE_BYTES)) large.push({ name, size, sha256: await hashOf(files, name, size) });
  for (const { name, size, sha256 } of reported.values()) {
    if (found.has(name) && (await files.hash(name, size)) !== sha256) throw new InputError(`${files.label}/${name} is not what ${REPORT_FILE} says was written there; make the checkpoint again`);
  }
  const publisher = await open();
  for (const file of large) {
    await publisher.shard(file, await files.content(file.name));
    emit({ type: "uploaded", file: file.name, size: file.size });
  }
  const small = new Map<string, Uint8Array>();
  for (const name of found.keys()) {
    if (large.some((file) => file.name === name)) continue;
    const content = await files.content(name);
    if (content !== undefined) small.set(name, new Uint8Array(await content.arrayBuffer()));
  }
  if (report !== undefined) {
    const existing = await standingCard(await files.readFile(CARD_FILE), publisher, emit);
    const card = await cardBeside((name) => files.readFile(name), files.label, { repo: publisher.repo, ...(existing !== undefined && { existing }) });
    small.set(CARD_FILE, new TextEncoder().encode(card));
  }
  return await published(publisher, small, emit);
}

/** Commits, and tells where it is to be seen. */
export async function published(publisher: Publisher, files: ReadonlyMap<string, Uint8Array>, emit: (event: PushEvent) => void): Promise<Published> {
  const result = await publisher.commit(files);
  emit({ type: "published", repo: publisher.repo, ...result });
  return result;
}

/** The card that a new one is to replace: the one on the Hub, if a person wrote in it, or else the one in the output. */
export async function standingCard(local: string | undefined, publisher: Publisher, emit: (event: PushEvent) => void): Promise<string | undefined> {
  const onHub = await publisher.card();
  if (onHub === undefined || ownText(onHub) === "") return local ?? onHub;
  if (local !== undefined && ownText(local) !== "" && ownText(local) !== ownText(onHub)) {
    emit({ type: "warning", message: `${publisher.repo} has a model card with text of its own, which stays; what is written in the local ${CARD_FILE} is not published` });
  }
  return onHub;
}

async function hashOf(files: FinishedFiles, name: string, size: number): Promise<string> {
  const sha256 = await files.hash(name, size);
  if (sha256 === undefined) throw new InputError(`${files.label}/${name} changed while it was read; run the same command again`);
  return sha256;
}

/** Tells of a shard's bytes as they go out: a hundred times, however large it is. */
export function uploadTeller(emit: (event: PushEvent) => void): (file: LargeFile, sent: number) => void {
  const told = new Map<string, number>();
  return ({ name, size }, sent) => {
    const percent = Math.floor((100 * sent) / size);
    if (told.get(name) === percent) return;
    told.set(name, percent);
    emit({ type: "upload", file: name, size, sent });
  };
}
