import pLimit from "p-limit";
import { InputError } from "../errors.js";
import { eitherSignal } from "../hub/either-signal.js";
import { onEndpoint, type Hub } from "../hub/hub.js";
import { pageOf, refusalOf } from "../hub/refusal.js";
import { statusOf } from "../hub/statuses.js";
import { told } from "../hub/told.js";
import { isJsonObject, quote } from "../safetensors/json.js";
import { CountedBlob } from "./counted-blob.js";
import { post, type Destination } from "./destination.js";
import type { LargeFile } from "./publisher.js";

const PARTS_AT_ONCE = 4;

/** Times that addresses are asked for: each lasts for hours. */
const ROUNDS = 4;

/** What storage answers where an address is over, or where it heard too little for too long. */
const STALE = [400, 403, 404, 410];

/** Git LFS's own media type, which the batch route wants. */
const LFS_JSON = "application/vnd.git-lfs+json";

/** An address that takes bytes no more: it was signed for a while, or its upload is over. Another is to be asked for. */
class Expired extends Error {}

interface Action {
  readonly href: string;
  readonly header: Readonly<Record<string, string>>;
}

interface Parts {
  /** Where the upload is completed. */
  readonly href: string;
  /** Bytes of every part but the last. */
  readonly size: number;
  /** Where each goes, in their order. */
  readonly addresses: readonly string[];
}

/**
 * Puts a file into the Hub's store of large files, where no commit shows it yet, and returns when the Hub has confirmed its SHA-256. What the
 * store has is not sent: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md, with the Hub's own `multipart` transfer.
 * Parts that were taken are not sent again. Throws `InputError`; the signal's reason when aborted.
 * @param content undefined: the store must have it
 * @param onBytes how many bytes of it are there, or on their way
 */
export async function sendLargeFile(to: Destination, file: LargeFile, content: Blob | undefined, onBytes: (bytes: number) => void): Promise<void> {
  const taken = new Map<string, string>();
  for (let round = 1; ; round++) {
    to.options.signal?.throwIfAborted();
    const { upload, verify } = await actionsOf(to, file);
    if (upload === undefined) {
      onBytes(file.size);
      return;
    }
    if (content === undefined) throw new InputError(`${pageOf(to.hub, to.repo)}: the Hub has lost ${file.name}, which was sent there and deleted here; use --overwrite to start anew`);
    try {
      const parts = partsOf(upload, file);
      if (parts === undefined) await sendWhole(to, upload, content, onBytes);
      else await sendParts(to, file, parts, content, taken, onBytes);
      if (verify !== undefined) await confirm(to, verify, file);
      // Without an address to verify at, the store is asked once more whether it has the file.
      if (verify !== undefined || (await actionsOf(to, file)).upload === undefined) return;
      throw new Expired("the Hub does not have the file after it was sent");
    } catch (error) {
      if (!(error instanceof Expired)) throw error;
      if (round === ROUNDS) throw new InputError(`${pageOf(to.hub, to.repo)}: ${file.name} cannot be sent: ${error.message}; run the same command again to go on`);
    }
  }
}

/** Where the file is to be sent, and verified; no upload where the store has it. */
async function actionsOf(to: Destination, { name, size, sha256 }: LargeFile): Promise<{ readonly upload: Action | undefined; readonly verify: Action | undefined }> {
  const url = `${to.hub.endpoint}/${to.repo.type === "dataset" ? "datasets/" : ""}${to.repo.id}.git/info/lfs/objects/batch`;
  const answer = await post(to, url, {
    operation: "upload", transfers: ["basic", "multipart"], hash_algo: "sha256",
    // A pull request's branch is not there yet.
    ...(!to.createPr && { ref: { name: to.branch } }),
    objects: [{ oid: sha256, size }],
  }, LFS_JSON);
  const objects = isJsonObject(answer) ? answer.objects : undefined;
  const object: unknown = Array.isArray(objects) ? objects.find((one: unknown) => isJsonObject(one) && one.oid === sha256) : undefined;
  if (!isJsonObject(object)) throw new InputError(`${url}: the answer does not speak of ${name}; is ${to.hub.endpoint} a Hub?`);
  if (isJsonObject(object.error)) throw new InputError(`${pageOf(to.hub, to.repo)}: the Hub does not take ${name}: ${told(to.hub, String(object.error.message))}`);
  const { upload, verify } = isJsonObject(object.actions) ? object.actions : {};
  return { upload: actionOf(upload, url, to.hub), verify: actionOf(verify, url, to.hub) };
}

function actionOf(value: unknown, where: string, hub: Hub): Action | undefined {
  if (value === undefined || value === null) return undefined;
  const { href, header = {} } = isJsonObject(value) ? value : {};
  if (typeof href !== "string" || !URL.canParse(href) || !/^https?:$/.test(new URL(href).protocol) || !(header === null || isJsonObject(header))) {
    throw new InputError(`${where}: the answer names no proper address to send to`);
  }
  return { href: onEndpoint(hub, href), header: Object.fromEntries(Object.entries(header ?? {}).map(([key, text]) => [key, String(text)])) };
}

/** The Hub tells the parts of a multipart upload by headers: `chunk_size`, and the address of each by its number. */
function partsOf({ href, header }: Action, { name, size }: LargeFile): Parts | undefined {
  if (header.chunk_size === undefined) return undefined;
  const partSize = Number(header.chunk_size);
  const addresses = Object.entries(header).filter(([key]) => /^\d+$/.test(key)).sort(([a], [b]) => Number(a) - Number(b)).map(([, address]) => address);
  if (!(Number.isSafeInteger(partSize) && partSize > 0) || addresses.length !== Math.ceil(size / partSize) || !addresses.every((address) => URL.canParse(address))) {
    throw new InputError(`${new URL(href).origin}: wants ${name} in ${String(addresses.length)} parts of ${quote(header.chunk_size)} bytes, which does not come to its ${String(size)}`);
  }
  return { href, size: partSize, addresses };
}

async function sendWhole(to: Destination, { href, header }: Action, content: Blob, onBytes: (bytes: number) => void): Promise<void> {
  await put(to, href, new CountedBlob(content, onBytes), header);
}

async function sendParts(to: Destination, file: LargeFile, { href, size, addresses }: Parts, content: Blob, taken: Map<string, string>, onBytes: (bytes: number) => void): Promise<void> {
  // An upload has an id of its own: what another one took is of no use to it.
  const key = (part: number): string => `${href} ${String(part)}`;
  const end = (part: number): number => Math.min((part + 1) * size, file.size);
  const bytes = addresses.map((_, part) => (taken.has(key(part)) ? end(part) - part * size : 0));
  const failed = new AbortController();
  const signal = eitherSignal(to.options.signal, failed.signal);
  const sendPart = async (address: string, part: number): Promise<void> => {
    if (taken.has(key(part))) return;
    signal.throwIfAborted();
    const piece = new CountedBlob(content.slice(part * size, end(part)), (sent) => {
      bytes[part] = sent;
      onBytes(bytes.reduce((sum, one) => sum + one, 0));
    });
    const tag = (await put(to, address, piece, {}, signal)).headers.get("etag");
    if (tag === null) throw new InputError(`${new URL(address).origin}: took part ${String(part + 1)} of ${file.name} without an ETag`);
    taken.set(key(part), tag);
  };
  const limit = pLimit(PARTS_AT_ONCE);
  const sending = addresses.map((address, part) => limit(() => sendPart(address, part)));
  try {
    await Promise.all(sending);
  } catch (error) {
    // Nobody waits for the others' bytes any more.
    failed.abort();
    await Promise.allSettled(sending);
    throw error;
  }
  const completion = { oid: file.sha256, parts: addresses.map((_, part) => ({ partNumber: part + 1, etag: taken.get(key(part))! })) };
  const response = await to.send(href, { method: "POST", headers: { "content-type": LFS_JSON, accept: LFS_JSON }, body: JSON.stringify(completion) });
  // Where the first answer was lost, the upload is over, and asking for addresses shows whether the file is there.
  if (response.status === 404 || response.status === 400) throw new Expired(`its parts cannot be joined (${statusOf(response)})`);
  if (!response.ok) throw await refusalOf(response, to.hub, to.repo);
}

async function put(to: Destination, address: string, body: Blob, headers: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<Response> {
  const response = await to.send(address, { method: "PUT", body, headers, ...(signal && { signal }) });
  if (response.ok) return response;
  const said = `${new URL(address).host} answers with ${statusOf(response)}`;
  if (STALE.includes(response.status)) throw new Expired(said);
  throw new InputError(`${said} to what was sent to it`);
}

async function confirm(to: Destination, { href }: Action, { sha256, size }: LargeFile): Promise<void> {
  const response = await to.send(href, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ oid: sha256, size }) });
  if ([401, 403].includes(response.status)) throw await refusalOf(response, to.hub, to.repo);
  if (!response.ok) throw new Expired(`the Hub does not confirm it (${statusOf(response)})`);
}
