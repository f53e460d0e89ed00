import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** The files of a folder, as a repo on the loopback Hub has them; subfolders are left out. */
export function filesOf(folder: string): Record<string, Buffer<ArrayBuffer>> {
  return Object.fromEntries(readdirSync(folder).filter((name) => statSync(join(folder, name)).isFile()).map((name) => [name, readFileSync(join(folder, name))]));
}
