import type { SteadyOptions } from "../hub/attempts.js";
import type { Hub, HubRepo } from "../hub/hub.js";
import { listRepo, readRange, resolveRevision } from "../hub/repo-files.js";
import type { DataSetFiles } from "./data-set-files.js";

/**
 * A data set on a Hub at the commit that a revision has now; all reads are of that commit. Throws `InputError` where there is none, or it will not be shown.
 * @param folder where all files that matter lie: the others are not listed
 */
export async function openHubDataSet(hub: Hub, id: string, revision?: string, folder?: string, options: SteadyOptions = {}): Promise<DataSetFiles> {
  const repo: HubRepo = { type: "dataset", id };
  const { commit } = await resolveRevision(hub, repo, revision, options);
  const files = await listRepo(hub, repo, commit, { ...options, ...(folder !== undefined && { folder }) });
  return {
    label: `${id}@${commit.slice(0, 8)}`, repo: id, commit,
    files: new Map([...files].map(([path, { size }]) => [path, size])),
    read: (path, start, end) => readRange(hub, repo, commit, path, start, end, options),
  };
}
