import { createHash } from "node:crypto";
import { vi } from "vitest";
import { startLoopbackHub, type Fault, type LoggedRequest, type LoopbackHub, type LoopbackOptions } from "../../scripts/loopback-hub/server.js";
import { openHubPublisher, type PublisherOptions, type PublishTo } from "#src/publish/hub-publisher.js";
import type { LargeFile, Publisher } from "#src/publish/publisher.js";

export const TOKEN = "hf_ofOrg";

/** A Hub whose answers go wrong as `faults` says: taken out one by one, in order, by the request that each is for. */
export async function startHub(options: LoopbackOptions = {}): Promise<LoopbackHub & { readonly faults: { readonly at: RegExp; readonly kind: Fault }[] }> {
  const faults: { readonly at: RegExp; readonly kind: Fault }[] = [];
  const hub = await startLoopbackHub({
    partSize: 1000, accounts: { [TOKEN]: { name: "me", orgs: ["org"] }, hf_reads: { name: "me", orgs: ["org"], write: false }, hf_other: { name: "other" } },
    fault: ({ method, url }) => {
      if (faults.length === 0 || !faults[0].at.test(`${method} ${url}`)) return undefined;
      return faults.shift()!.kind;
    },
    ...options,
  });
  return Object.assign(hub, { faults });
}

/** Such a Hub, which the environment names and has the token of. */
export async function startHubOfEnvironment(): ReturnType<typeof startHub> {
  const hub = await startHub({ partSize: 50_000 });
  vi.stubEnv("HF_ENDPOINT", hub.url).stubEnv("HF_TOKEN", TOKEN);
  return hub;
}

export function open(hub: LoopbackHub, to: Partial<PublishTo> = {}, options: PublisherOptions = {}, token: string | undefined = TOKEN): Promise<Publisher> {
  return openHubPublisher({ endpoint: hub.url, ...(token !== "" && { token }), fetch }, { repo: "org/new", ...to }, { sleep: () => Promise.resolve(), ...options });
}

/** Bytes that look like weights: no text, and different for each seed. */
export function weights(size: number, seed = 1): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: size }, (_, i) => (i * 31 * seed + (i >> 8)) & 255);
}

export function shardOf(name: string, bytes: Uint8Array): LargeFile {
  return { name, size: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}

export function send(publisher: Publisher, name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  return publisher.shard(shardOf(name, bytes), new Blob([bytes]));
}

export const text = (value: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(value);

/** What a revision of a repo holds. */
export function contents(hub: LoopbackHub, revision = "main", id = "org/new"): Record<string, string> {
  const files = [...(hub.repo("model", id)?.at(revision)?.files ?? [])].filter(([name]) => name !== ".gitattributes");
  return Object.fromEntries(files.map(([name, { bytes }]) => [name, Buffer.from(bytes).toString("base64")]));
}

export const base64 = (files: Record<string, Uint8Array>): Record<string, string> => Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, Buffer.from(bytes).toString("base64")]));

export const puts = (hub: LoopbackHub): LoggedRequest[] => hub.requests.filter(({ method, port }) => method === "PUT" && port === "cdn");
