import { open, readdir, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, join, sep } from "node:path";
import { InputError } from "../errors.js";
import { quote } from "../safetensors/json.js";
import { nameWithin, WEIGHTS_FOLDER, type Source } from "./source.js";

/** Files kept open between reads: a run goes back and forth between a few shards, but a checkpoint may have hundreds. */
const MAX_IDLE_HANDLES = 8;

/** Node reads at most 2^31 − 1 bytes at a time. */
const MAX_READ_BYTES = 2 ** 30;

/** A source that holds files open until it is closed. */
export interface FolderSource extends Source {
  /** Closes the files. Reads after this are errors. */
  close(): Promise<void>;
}

/**
 * A checkpoint's folder on disk. Links are followed, since the Hub's cache is made of them. Throws `InputError` where `path` is
 * missing, is no folder, or may not be read.
 * @param deep also what lies in folders within it, by paths with slashes. These are many, and read once each: none is kept open
 */
export async function openFolder(path: string, deep = false): Promise<FolderSource> {
  const found = await stat(path).catch((error: unknown) => refuse(error, path, "no such folder"));
  if (!found.isDirectory()) throw new InputError(`${path}: ${notAFolder(path)}`);
  // Whether it may be listed shows only now.
  await readdir(path).catch((error: unknown) => refuse(error, path, "no such folder"));
  return new Folder(path, deep);
}

/** Whether there is anything of this path. */
export async function isThere(path: string): Promise<boolean> {
  return stat(path).then(() => true, (error: unknown) => (error as NodeJS.ErrnoException).code !== "ENOENT" && (error as NodeJS.ErrnoException).code !== "ENOTDIR");
}

function notAFolder(path: string): string {
  if (path.endsWith(".safetensors")) return "is a single file; give the folder that holds it, with its config.json and tokenizer";
  if (path.endsWith(".gguf")) return "is a GGUF file, which is quantized already; give the folder of the original checkpoint, in safetensors";
  return "is not a folder; give a checkpoint's folder, with config.json and safetensors files";
}

interface OpenFile {
  readonly handle: Promise<FileHandle>;
  readers: number;
}

class Folder implements FolderSource {
  readonly label: string;
  /** By name, the one used last at the end. */
  private readonly handles = new Map<string, OpenFile>();
  private closed = false;

  constructor(path: string, private readonly deep: boolean) {
    this.label = path;
  }

  async list(): Promise<ReadonlyMap<string, number>> {
    const names = await readdir(this.label, { recursive: this.deep }).catch((error: unknown) => refuse(error, this.label, "no such folder"));
    const nested = this.deep ? [] : (await readdir(join(this.label, WEIGHTS_FOLDER)).catch(() => [])).map((name) => `${WEIGHTS_FOLDER}/${name}`);
    const files = new Map<string, number>();
    for (const name of [...names, ...nested].sort()) {
      // A link that leads nowhere is as good as no file.
      const found = await stat(join(this.label, name)).catch(() => undefined);
      if (found?.isFile()) files.set(name.replaceAll(sep, "/"), found.size);
    }
    return files;
  }

  async read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const full = this.pathOf(path);
    const file = this.take(path, full);
    try {
      const handle = await file.handle.catch((error: unknown) => {
        this.handles.delete(path);
        return refuse(error, full, "no such file");
      });
      const bytes = new Uint8Array(end - start);
      for (let done = 0; done < bytes.length; ) {
        const { bytesRead } = await handle
          .read(bytes, done, Math.min(bytes.length - done, MAX_READ_BYTES), start + done)
          .catch((error: unknown) => refuse(error, full, "no such file"));
        if (bytesRead === 0) throw new InputError(`${full}: ends at byte ${start + done}, but bytes ${start} to ${end} were wanted`);
        done += bytesRead;
      }
      return bytes;
    } finally {
      file.readers--;
      await this.closeIdle(this.deep ? 0 : MAX_IDLE_HANDLES);
    }
  }

  async fingerprint(path: string): Promise<string> {
    const full = this.pathOf(path);
    const { size, mtimeNs } = await stat(full, { bigint: true }).catch((error: unknown) => refuse(error, full, "no such file"));
    return `${size.toString()} bytes, modified ${mtimeNs.toString()}`;
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.closeIdle(0);
  }

  /** Names come from indexes, which may be hostile: none may lead out of the folder. */
  private pathOf(path: string): string {
    const parts = this.deep ? path.split("/") : [nameWithin(path)];
    if (parts.some((name) => name !== basename(name) || ["", ".", ".."].includes(name) || name.includes("\0"))) {
      throw new InputError(`${this.label}: ${quote(path)} is not the name of a file in this folder`);
    }
    return join(this.label, path);
  }

  private take(name: string, full: string): OpenFile {
    if (this.closed) throw new Error(`${this.label} is closed`);
    const file = this.handles.get(name) ?? { handle: open(full, "r"), readers: 0 };
    file.readers++;
    this.handles.delete(name);
    this.handles.set(name, file);
    return file;
  }

  /** Closes the files that were used longest ago, but none that is being read. */
  private async closeIdle(keep: number): Promise<void> {
    const limit = this.closed ? 0 : keep;
    const closing: Promise<void>[] = [];
    for (const [name, file] of this.handles) {
      if (this.handles.size <= limit) break;
      if (file.readers > 0) continue;
      this.handles.delete(name);
      closing.push(file.handle.then((handle) => handle.close(), () => undefined));
    }
    await Promise.all(closing);
  }
}

/** Turns what the file system says into what the person at the keyboard can act on. */
function refuse(error: unknown, path: string, missing: string): never {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT") throw new InputError(`${path}: ${missing}`);
  if (code === "ENOTDIR") throw new InputError(`${path}: ${missing}, since a part of this path is a file`);
  if (code === "EACCES" || code === "EPERM") throw new InputError(`${path}: no permission to read it`);
  if (code === "EISDIR") throw new InputError(`${path}: is a folder, not a file`);
  if (code === "EIO") throw new InputError(`${path}: the disk could not read it (EIO)`);
  throw error;
}
