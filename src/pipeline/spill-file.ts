import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scratchFile } from "./scratch-file.js";
import type { ScratchFile } from "./sink.js";

/** A new temporary file for what memory cannot hold. Its name is gone at once, and its space with the process. */
export async function openSpillFile(): Promise<ScratchFile> {
  const folder = await mkdtemp(join(tmpdir(), "shardsmith-"));
  const path = join(folder, "spill.bin");
  try {
    return scratchFile(await open(path, "w+"), path);
  } finally {
    // Windows keeps the name of an open file; there the system's own cleaning takes it.
    await rm(folder, { recursive: true, force: true }).catch(() => undefined);
  }
}
