import { open, readdir, readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { CHECKPOINT_FILE } from "../publish/weights.js";
import { nameWithin, WEIGHTS_FOLDER } from "../source/source.js";
import { FileBlob } from "./file-blob.js";
import { hashFile } from "./scratch-file.js";
import type { FinishedFiles } from "./sink.js";

/** The files that lie in a folder; hidden ones are no part of a checkpoint, and of those in subfolders only weights are. */
export function finishedFolder(folder: string): FinishedFiles {
  const sizeOf = async (name: string): Promise<number | undefined> => {
    const found = await stat(join(folder, name)).catch(() => undefined);
    // A name from an index may be hostile: it must not lead out of the folder.
    const own = nameWithin(name);
    return own === basename(own) && own !== ".." && found?.isFile() === true ? found.size : undefined;
  };
  return {
    label: folder,

    async list() {
      const files = new Map<string, number>();
      for (const name of [...(await readdir(folder)), ...(await nestedWeights(folder))].sort()) {
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

/** The files of a checkpoint that lie in a subfolder, as `onnx/model_q4.onnx`. */
export async function nestedWeights(folder: string): Promise<string[]> {
  const names = await readdir(join(folder, WEIGHTS_FOLDER)).catch(() => []);
  return names.map((name) => `${WEIGHTS_FOLDER}/${name}`).filter((name) => CHECKPOINT_FILE.test(name));
}
