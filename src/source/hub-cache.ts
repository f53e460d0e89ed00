import { readFile, realpath } from "node:fs/promises";
import { basename, join } from "node:path";
import { expand, filled, hubHome } from "../hub/environment.js";
import type { Environment } from "../hub/environment.js";
import type { HubRepo } from "../hub/hub.js";
import { openFolder } from "./folder.js";
import type { HubCache } from "./hub.js";

const COMMIT = /^[0-9a-f]{40}$/;

/**
 * The Hub's cache on this machine, in the layout of its Python library, as HF_HUB_CACHE, HF_HOME and HF_HUB_OFFLINE have it:
 * models--org--name or datasets--org--name, in which refs/<revision> holds a commit, and snapshots/<commit>/<file> links to blobs/<hash of the
 * file>. It is only read.
 */
export function hubCacheOfEnvironment(env: Environment = process.env): HubCache {
  const path = expand(filled(env.HF_HUB_CACHE) ?? filled(env.HUGGINGFACE_HUB_CACHE) ?? join(hubHome(env), "hub"));
  const folderOf = ({ type, id }: HubRepo) => join(path, [`${type}s`, ...id.split("/")].join("--"));
  return {
    path,
    offline: /^(?:1|on|yes|true)$/i.test(filled(env.HF_HUB_OFFLINE) ?? env.TRANSFORMERS_OFFLINE ?? ""),

    async commitOf(repo, revision) {
      if (COMMIT.test(revision)) return revision;
      const commit = await readFile(join(folderOf(repo), "refs", ...revision.split("/")), "utf8").catch(() => "");
      return COMMIT.test(commit.trim()) ? commit.trim() : undefined;
    },

    async open(repo, commit) {
      const snapshot = join(folderOf(repo), "snapshots", commit);
      const folder = await openFolder(snapshot, repo.type === "dataset").catch(() => undefined);
      return (
        folder && {
          label: folder.label,
          list: () => folder.list(),
          read: (file, start, end) => folder.read(file, start, end),
          // Where links cannot be had, the file lies there itself and has no name that tells.
          fingerprint: async (file) => hashOf(basename(await realpath(join(snapshot, file)))) ?? (await folder.fingerprint(file)),
          close: () => folder.close(),
        }
      );
    },
  };
}

/** A blob's name: of large files their SHA-256, of others git's id. */
function hashOf(name: string): string | undefined {
  if (/^[0-9a-f]{64}$/.test(name)) return `sha256 ${name}`;
  return /^[0-9a-f]{40}$/.test(name) ? `git ${name}` : undefined;
}
