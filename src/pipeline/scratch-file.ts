import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { InputError } from "../errors.js";
import type { ScratchFile } from "./sink.js";

const HASH_CHUNK = 8 << 20;

/** A `ScratchFile` on an open file; `path` is for messages. Errors of the system pass through as they are. */
export function scratchFile(file: FileHandle, path: string): ScratchFile {
  return {
    write: (offset, bytes) => writeAll(file, bytes, offset),
    async read(offset, into) {
      for (let done = 0; done < into.byteLength; ) {
        const { bytesRead } = await file.read(into, done, into.byteLength - done, offset + done);
        if (bytesRead === 0) throw new InputError(`${path} is shorter than it was written: it changed under us`);
        done += bytesRead;
      }
    },
    sync: () => file.sync(),
    close: () => file.close(),
    hash: (size) => hashFile(file, size),
  };
}

export async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done, offset + done);
    done += bytesWritten;
  }
}

/** SHA-256 in hex of a file's first `size` bytes; undefined if it is shorter. */
export async function hashFile(file: FileHandle, size: number): Promise<string | undefined> {
  const hash = createHash("sha256");
  const chunk = new Uint8Array(Math.min(HASH_CHUNK, size));
  for (let at = 0; at < size; ) {
    const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.byteLength, size - at), at);
    if (bytesRead === 0) return undefined;
    hash.update(chunk.subarray(0, bytesRead));
    at += bytesRead;
  }
  return hash.digest("hex");
}
