import type { HubRepo } from "./hub.js";

/** What a person calls a repo, and which state of it. */
export interface HubAddress {
  readonly repo: HubRepo;
  readonly revision?: string;
}

/** As the Hub allows them: letters, digits, and - _ . within. */
const PART = /^[A-Za-z0-9_](?:[\w.-]{0,94}[A-Za-z0-9_])?$/;

/** A revision has no characters that git forbids in a ref. */
const REVISION = /^(?!.*\.\.)[^\s~^:?*[\]\\\p{Cc}]+$/u;

/** Files that people name by mistake, where a folder is wanted. */
const FILES = /\.(?:safetensors|gguf|json|bin|jsonl|txt|parquet|gz)$/i;

const PUBLIC_HOSTS = ["huggingface.co", "www.huggingface.co", "hf.co"];

/**
 * `org/name`, `org/name@revision`, or the address of a page or file of a repo on the endpoint or the public Hub. Undefined for all else, which
 * is a path then. Bare names, as the oldest models have them, are taken from web addresses only: as text they are folders.
 */
export function hubAddressOf(text: string, endpoint: string): HubAddress | undefined {
  if (/^https?:\/\//i.test(text)) return URL.canParse(text) ? ofUrl(new URL(text), endpoint) : undefined;
  const [id, ...rest] = text.split("@");
  if (!id.includes("/") || FILES.test(id)) return undefined;
  return addressOf("model", id, rest.length > 0 ? rest.join("@") : undefined);
}

function ofUrl(url: URL, endpoint: string): HubAddress | undefined {
  if (url.host !== new URL(endpoint).host && !PUBLIC_HOSTS.includes(url.hostname)) return undefined;
  const parts = url.pathname.slice(new URL(endpoint).host === url.host ? new URL(endpoint).pathname.replace(/\/$/, "").length : 0).split("/").filter((part) => part !== "");
  const type = parts[0] === "datasets" ? "dataset" : "model";
  if (type === "dataset") parts.shift();
  const at = parts.findIndex((part) => /^(?:tree|blob|resolve|raw|commit)$/.test(part));
  const id = parts.slice(0, at < 0 ? undefined : at).join("/");
  if (at < 0) return addressOf(type, id, undefined);
  try {
    const [first, ...more] = parts.slice(at + 1).map(decodeURIComponent);
    // refs/pr/1 and refs/convert/parquet are the revisions that may hold slashes of their own.
    return addressOf(type, id, first === "refs" && more.length >= 2 ? [first, ...more.slice(0, 2)].join("/") : first);
  } catch {
    return undefined;
  }
}

function addressOf(type: HubRepo["type"], id: string, revision: string | undefined): HubAddress | undefined {
  const parts = id.split("/");
  if (parts.length > 2 || !parts.every((part) => PART.test(part)) || /--|\.\.|\.git$/.test(id)) return undefined;
  if (revision === undefined) return { repo: { type, id } };
  return REVISION.test(revision) ? { repo: { type, id }, revision } : undefined;
}
