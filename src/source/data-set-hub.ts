import type { Hub } from "../hub/hub.js";
import type { DataSetFiles } from "./data-set-files.js";
import { openHub, type HubSourceOptions } from "./hub.js";

/**
 * A data set on a Hub at the commit that a revision has now; all reads are of that commit, and from the cache where it has them. Throws
 * `InputError` where there is none, or it will not be shown.
 */
export async function openHubDataSet(hub: Hub, id: string, revision?: string, options: HubSourceOptions = {}): Promise<DataSetFiles> {
  const source = await openHub(hub, { type: "dataset", id }, revision, options);
  return { label: source.label, repo: id, commit: source.commit, files: await source.list(), read: (path, start, end) => source.read(path, start, end) };
}
