import pLimit from "p-limit";
import { InputError } from "../errors.js";
import type { SteadyOptions } from "../hub/attempts.js";
import { eitherSignal } from "../hub/either-signal.js";
import type { Hub, HubRepo } from "../hub/hub.js";
import { pageOf } from "../hub/refusal.js";
import { RemoteFile } from "../hub/remote-file.js";
import { listRepo, resolveRevision } from "../hub/repo-files.js";
import type { RepoFile } from "../hub/repo-files.js";
import { quote } from "../safetensors/json.js";
import { nameWithin, type Source } from "./source.js";

/** Enough to keep a line busy; more is not kind to the Hub. */
const READS_AT_ONCE = 4;

/** A larger read is made of pieces, so that several connections share it and a broken one costs little. */
const PIECE_BYTES = 16 * 1024 * 1024;
const SPLIT_BYTES = 2 * PIECE_BYTES;

/** A source that keeps something open until it is closed. */
export interface ClosableSource extends Source {
  close(): Promise<void>;
}

/** A repo's files at one commit on a Hub. */
export interface HubSource extends ClosableSource {
  readonly hub: NonNullable<Source["hub"]>;
  readonly commit: string;
}

/** What this machine holds of the Hub already. */
export interface HubCache {
  /** For messages. */
  readonly path: string;
  /** Whether the Hub is not to be asked at all. */
  readonly offline: boolean;
  /** The commit that a revision led to when it was last fetched. */
  commitOf(repo: HubRepo, revision: string): Promise<string | undefined>;
  /** What it holds of a commit, which may be a few of its files only; its fingerprints are hashes, as the Hub's are, where it knows them. */
  open(repo: HubRepo, commit: string): Promise<ClosableSource | undefined>;
}

export interface HubSourceOptions extends SteadyOptions {
  readonly cache?: HubCache;
  /** Where in a data set all files lie that matter: the others are not listed. */
  readonly folder?: string;
}

/**
 * A repo on the Hub: of a model the files at the top level, of a data set all. The revision (main without one) is resolved to a commit here,
 * and all reads are of that commit; what the cache holds of it is read from there. Throws `InputError` where the Hub has no such repo or revision, or will not show it. The signal, and to
 * close it, ends all reads that are under way.
 */
export async function openHub(hub: Hub, repo: HubRepo, revision = "main", { cache, folder, ...options }: HubSourceOptions = {}): Promise<HubSource> {
  if (cache?.offline === true) return await openOffline(hub, repo, revision, cache);
  const { commit } = await resolveRevision(hub, repo, revision, options);
  const files = await listRepo(hub, repo, commit, { ...options, ...(folder !== undefined && { folder }) });
  const own = new Map([...files].filter(([path]) => repo.type === "dataset" || !nameWithin(path).includes("/")).sort(([a], [b]) => (a < b ? -1 : 1)));
  const held = await cache?.open(repo, commit);
  return new OnlineSource(hub, repo, commit, own, options, held, (await held?.list()) ?? new Map());
}

async function openOffline(hub: Hub, repo: HubRepo, revision: string, cache: HubCache): Promise<HubSource> {
  const commit = await cache.commitOf(repo, revision);
  const held = commit === undefined ? undefined : await cache.open(repo, commit);
  if (commit === undefined || held === undefined) {
    throw new InputError(`${pageOf(hub, repo)}: HF_HUB_OFFLINE is set, and the cache at ${cache.path} does not hold revision ${quote(revision)}; fetch it once with \`hf download ${repo.id}${repo.type === "dataset" ? " --repo-type dataset" : ""}\`, or unset HF_HUB_OFFLINE`);
  }
  return {
    label: `${labelOf(repo, commit)} (offline, in ${cache.path})`,
    hub: { repo: repo.id, commit, bytesRead: () => 0 },
    commit,
    list: () => held.list(),
    read: (path, start, end) => held.read(path, start, end),
    fingerprint: (path) => held.fingerprint(path),
    close: () => held.close(),
  };
}

function labelOf({ id }: HubRepo, commit: string): string {
  return `${id}@${commit.slice(0, 8)}`;
}

class OnlineSource implements HubSource {
  readonly label: string;
  readonly hub: HubSource["hub"];
  private readonly remote: ReadonlyMap<string, RemoteFile>;
  private readonly limit = pLimit(READS_AT_ONCE);
  private readonly options: SteadyOptions;
  private readonly closing = new AbortController();
  private bytes = 0;

  constructor(
    hub: Hub,
    repo: HubRepo,
    readonly commit: string,
    private readonly files: ReadonlyMap<string, RepoFile>,
    options: SteadyOptions,
    private readonly cache: ClosableSource | undefined,
    /** Sizes of the files in the cache. */
    private readonly cached: ReadonlyMap<string, number>,
  ) {
    this.label = labelOf(repo, commit);
    this.options = { ...options, signal: eitherSignal(options.signal, this.closing.signal) };
    this.hub = { repo: repo.id, commit, bytesRead: () => this.bytes };
    this.remote = new Map([...files].map(([path, { size, sha256, oid }]) => [path, new RemoteFile(hub, repo, commit, path, { size, tag: sha256 ?? oid })]));
  }

  list(): Promise<ReadonlyMap<string, number>> {
    return Promise.resolve(new Map([...this.files].map(([path, { size }]) => [path, size])));
  }

  async read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const size = this.files.get(path)?.size;
    if (size === undefined) throw this.missing(path);
    if (end > size) throw new InputError(`${this.label}/${path}: ends at byte ${size}, but bytes ${start} to ${end} were wanted`);
    // A file of another size in the cache is one that broke off.
    if (this.cache !== undefined && this.cached.get(path) === size) return await this.cache.read(path, start, end);
    const bytes = new Uint8Array(end - start);
    const piece = bytes.length > SPLIT_BYTES ? PIECE_BYTES : bytes.length;
    const starts: number[] = [];
    for (let from = 0; from < bytes.length; from += piece) starts.push(from);
    // One that fails for good ends the others: nobody waits for their bytes any more.
    const failed = new AbortController();
    const signal = eitherSignal(this.options.signal, failed.signal);
    const file = this.remote.get(path)!;
    await this.limit
      .map(starts, (from) => file.read(bytes.subarray(from, Math.min(from + piece, bytes.length)), start + from, { ...this.options, signal }, (count) => (this.bytes += count)))
      .catch((error: unknown) => {
        failed.abort();
        throw error;
      });
    return bytes;
  }

  fingerprint(path: string): Promise<string> {
    const file = this.files.get(path);
    if (!file) return Promise.reject(this.missing(path));
    return Promise.resolve(file.sha256 === undefined ? `git ${file.oid}` : `sha256 ${file.sha256}`);
  }

  async close(): Promise<void> {
    this.closing.abort(new InputError(`${this.label} is closed`));
    await this.cache?.close();
  }

  private missing(path: string): InputError {
    return new InputError(`${this.label}: has no file ${quote(path)}`);
  }
}
