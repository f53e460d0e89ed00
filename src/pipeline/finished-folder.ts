import { open, readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { FileBlob } from "./file-blob.js";
import { hashFile } from "./scratch-file.js";
import type { FinishedFiles } from "./sink.js";

/** The files that lie in a folder; hidden ones and subfolders are no part of a checkpoint. */
export function finishedFolder(folder: string): FinishedFiles {
  const sizeOf = async (name: string): Promise<number | undefined> => {
    const found = await stat(join(folder, name)).catch(() => undefined);
    // A name from an index may be hostile: it must not lead out of the folder.
    return name === basename(name) && found?.isFile() === true ? found.size : undefined;
  };
  return {
    label: folder,

    async list() {
      const files = new Map<string, number>();
      for (const name of (await readdir(folder)).sort()) {
        const size = name.startsWith(".") ? undefined : await sizeOf(name);
        if (size !== undefined) files.set(name, size);
      }
      return files;
    },

    async content(name) {
      const size = await sizeOf(name);
      return size === undefined ? undefined : new FileBlob(join(folder, name), 0, size);
    },

    async hash(name, size) {
      if ((await sizeOf(name)) !== size) return undefined;
      const file = await open(join(folder, name));
      try {
        return await hashFile(file, size);
      } finally {
        await file.close();
      }
    },

    readFile: (name) => readFile(join(folder, name), "utf8").catch(() => undefined),
  };
}
