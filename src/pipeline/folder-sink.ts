import { mkdir, open, readdir, readFile, rename, rm, rmdir, stat, statfs, writeFile, type FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { InputError } from "../errors.js";
import { CHECKPOINT_FILE } from "../publish/weights.js";
import { finishedFolder, nestedWeights } from "./finished-folder.js";
import { lockFolder } from "./folder-lock.js";
import { hashFile, scratchFile, writeAll } from "./scratch-file.js";
import type { ScratchFile, Sink } from "./sink.js";

/** What a run keeps in the output folder until it is complete. */
const WORK = ".shardsmith";

/**
 * Opens an output folder for one run, making it if needed; until `close` no other run gets in. Throws `InputError` where the folder
 * cannot be made or is in use.
 */
export async function openFolderSink(folder: string): Promise<Sink> {
  const work = join(folder, WORK);
  const isNew = !(await stat(folder).then(() => true, () => false));
  await explain(folder, mkdir(work, { recursive: true }));
  const unlock = await explain(folder, lockFolder(join(work, "lock"), folder));
  const files = new Map<string, FileHandle>();
  /** The journal's last line: those who log at the same time must not write to the same place. */
  let logged: Promise<void> = Promise.resolve();

  /** Where a file grows. Those for a subfolder lie beside the others. */
  const draftOf = (name: string): string => join(work, name.replaceAll("/", "%"));
  /** Gives a file its name. */
  const publish = async (name: string): Promise<void> => {
    const path = join(folder, name);
    if (name.includes("/")) await mkdir(dirname(path), { recursive: true });
    await rename(draftOf(name), path);
  };

  const handle = async (name: string): Promise<FileHandle> => {
    let file = files.get(name);
    if (file === undefined) {
      const path = draftOf(name);
      // "r+" keeps what is there; "w+" would empty it.
      file = await open(path, "r+").catch((error: unknown) => {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return open(path, "w+");
        throw error;
      });
      files.set(name, file);
    }
    return file;
  };
  const forget = async (name: string): Promise<void> => {
    await files.get(name)?.close();
    files.delete(name);
  };

  const empty = async (): Promise<void> => {
    for (const name of [...files.keys()]) await forget(name);
    // The lock goes last, with `close`.
    for (const name of await readdir(work)) if (name !== "lock") await rm(join(work, name), { force: true });
  };

  return {
    ...finishedFolder(folder),

    async journal() {
      const text = await readFile(join(work, "journal.jsonl"), "utf8").catch(() => "");
      const whole = text.slice(0, text.lastIndexOf("\n") + 1);
      // A line cut by a crash would run into the next one.
      if (whole.length < text.length) await (await handle("journal.jsonl")).truncate(Buffer.byteLength(whole));
      return whole.split("\n").filter((line) => line !== "");
    },

    log(line) {
      const written = explain(folder, logged.then(() => handle("journal.jsonl")).then(async (file) => {
        const { size } = await file.stat();
        await writeAll(file, new TextEncoder().encode(`${line}\n`), size);
        await file.sync();
      }));
      logged = written.catch(() => undefined);
      return written;
    },

    writeShard: (shard, offset, bytes) => explain(folder, handle(shard).then((file) => writeAll(file, bytes, offset))),

    async syncShards(shards) {
      for (const shard of shards) await explain(folder, handle(shard).then((file) => file.sync()));
    },

    async finishShard(shard, size) {
      const file = await handle(shard);
      await explain(folder, file.truncate(size).then(() => file.sync()));
      const hash = await hashFile(file, size);
      await forget(shard);
      await explain(folder, publish(shard));
      if (hash === undefined) throw new Error(`${shard} shrank while it was written`);
      return hash;
    },

    deleteShard: (shard) => explain(folder, rm(join(folder, shard), { force: true })),

    async writeFile(name, bytes) {
      await explain(folder, writeFile(draftOf(name), bytes, { flush: true }).then(() => publish(name)));
    },

    async scratch(name): Promise<ScratchFile> {
      const file = scratchFile(await explain(folder, handle(name)), draftOf(name));
      return {
        ...file,
        write: (offset, bytes) => explain(folder, file.write(offset, bytes)),
        sync: () => explain(folder, file.sync()),
        close: () => forget(name),
      };
    },

    has: (name) => stat(join(folder, name)).then(() => true, () => false),

    async reset() {
      await empty();
      // What makes a folder loadable goes first, so that it is never half of one checkpoint and half of another.
      const names = [...(await readdir(folder)), ...(await nestedWeights(folder))].filter((name) => CHECKPOINT_FILE.test(name));
      for (const name of names.sort()) await explain(folder, rm(join(folder, name)));
    },

    complete: empty,

    async close() {
      for (const name of [...files.keys()]) await forget(name);
      await unlock();
      // A run that was refused leaves no trace.
      if ((await readdir(work)).length === 0) await rmdir(work);
      if (isNew && (await readdir(folder)).length === 0) await rmdir(folder);
    },
  };
}

/** The first line of the journal that an unfinished run left in a folder; undefined where there is none. It waits for nobody. */
export async function firstOfJournal(folder: string): Promise<string | undefined> {
  const text = await readFile(join(folder, WORK, "journal.jsonl"), "utf8").catch(() => "");
  const end = text.indexOf("\n");
  return end < 0 ? undefined : text.slice(0, end);
}

/** Bytes that may still be written to the folder's disk. */
export async function freeSpace(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "no space is left on its disk",
  EDQUOT: "the disk quota is used up",
  EFBIG: "a file would grow beyond what the system allows",
  EROFS: "its disk is read-only",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENOTDIR: "it, or a part of its path, is not a folder",
  EEXIST: "it is not a folder",
  EIO: "the disk reports an error",
};

/** Turns what the system says into what a person can act on. */
async function explain<T>(folder: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const reason = REASONS[(error as NodeJS.ErrnoException).code ?? ""];
    if (error instanceof InputError || reason === undefined) throw error;
    throw new InputError(`cannot write to ${folder}: ${reason}. What was finished is kept; run the same command again to go on`, { cause: error });
  }
}
