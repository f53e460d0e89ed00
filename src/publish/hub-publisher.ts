import { InputError } from "../errors.js";
import type { SteadyOptions } from "../hub/attempts.js";
import { eitherSignal } from "../hub/either-signal.js";
import type { Hub } from "../hub/hub.js";
import { listRepo, readRange, resolveRevision } from "../hub/repo-files.js";
import { steadyFetch } from "../hub/steady-fetch.js";
import { CARD_FILE } from "./card.js";
import { commitFiles } from "./commit.js";
import type { Destination } from "./destination.js";
import { sendLargeFile } from "./lfs.js";
import type { LargeFile, Publisher } from "./publisher.js";
import { openRepo, repoNamed } from "./repo.js";

/** Where a checkpoint goes on the Hub. */
export interface PublishTo {
  /** `org/name`; it is made if it is not there. */
  readonly repo: string;
  /** Make it as a private one. One that is there and public is refused. */
  readonly private?: boolean;
  /** A branch, which is made if it is not there. Default main. */
  readonly revision?: string;
  /** Open a pull request instead of committing to the branch. */
  readonly createPr?: boolean;
}

export interface PublisherOptions extends SteadyOptions {
  /** Told of a shard's bytes that are there or on their way. */
  readonly onBytes?: (file: LargeFile, bytes: number) => void;
}

const SUMMARY = "Upload a checkpoint quantized with Shardsmith";

/** Opens a repo on a Hub for publishing, and makes it if needed. Throws `InputError` where that cannot be, before any work is done. */
export async function openHubPublisher(hub: Hub, { repo: name, private: isPrivate = false, revision: branch = "main", createPr = false }: PublishTo, { onBytes, ...given }: PublisherOptions = {}): Promise<Publisher> {
  const closing = new AbortController();
  const options = { ...given, signal: eitherSignal(given.signal, closing.signal) };
  const repo = repoNamed(name, hub);
  const to: Destination = { hub, repo, branch, createPr, send: steadyFetch(hub, options), options };
  await openRepo(to, isPrivate);
  const sent = new Map<string, LargeFile>();
  return {
    repo: repo.id,
    async card() {
      const { commit } = await resolveRevision(hub, repo, branch, options);
      const found = (await listRepo(hub, repo, commit, options)).get(CARD_FILE);
      return found && new TextDecoder().decode(await readRange(hub, repo, commit, CARD_FILE, 0, found.size, options));
    },
    async shard(file, content) {
      await sendLargeFile(to, file, content, (bytes) => onBytes?.(file, bytes));
      sent.set(file.name, file);
    },
    close: () => { closing.abort(new InputError(`${repo.id} is closed for publishing`)); },
    commit: (files) => commitFiles(to, SUMMARY, [...sent.values()], files),
  };
}
