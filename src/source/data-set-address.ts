/** Which part of which data set is meant. */
export interface DataSetAddress {
  readonly repo: string;
  /** A branch, tag or commit. */
  readonly revision?: string;
  /** Many repos hold several sets, each in a folder of its own. */
  readonly config?: string;
  readonly split?: string;
}

/** Reads `org/dataset[@revision][:config][/split]`, a slash in a revision written as %2F; undefined for what is written otherwise. */
export function dataSetAddressOf(text: string): DataSetAddress | undefined {
  const name = "[A-Za-z0-9][A-Za-z0-9._-]*";
  const found = new RegExp(`^(${name}/${name})(?:@([^@:/\\s]+))?(?::([^@:/\\s]+))?(?:/([^@:/\\s]+))?$`).exec(text);
  if (found === null) return undefined;
  const [, repo, revision, config, split] = found as unknown as [string, string, ...(string | undefined)[]];
  return { repo, ...(revision !== undefined && { revision: revision.replace(/%2F/gi, "/") }), ...(config !== undefined && { config }), ...(split !== undefined && { split }) };
}
