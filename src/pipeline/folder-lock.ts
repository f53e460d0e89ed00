import { link, readFile, rename, rm, unlink, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { InputError } from "../errors.js";

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in the kernel's own ticks (Linux), so that a recycled pid is not taken for it. */
  readonly started: string | undefined;
}

/**
 * Takes `path` as the lock of one process, and returns what gives it back. A lock whose holder is dead (killed, power cut) is taken
 * over. Throws `InputError` where a living process holds it.
 */
export async function lockFolder(path: string, label: string): Promise<() => Promise<void>> {
  const mine: Holder = { pid: process.pid, host: hostname(), started: await startOf(process.pid) };
  const draft = `${path}.${String(process.pid)}`;
  await writeFile(draft, JSON.stringify(mine));
  try {
    for (;;) {
      try {
        // A hard link appears whole or not at all, and fails where the name is taken.
        await link(draft, path);
        return () => rm(path, { force: true });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      const holder = await holderOf(path);
      if (holder !== undefined && (await isAlive(holder, mine))) {
        throw new InputError(
          `${label} is in use by another run (process ${String(holder.pid)} on ${holder.host}). ` +
            `Wait for it, or stop it. If there is no such run, delete ${path}`,
        );
      }
      await evict(path, `${draft}.stale`, mine);
    }
  } finally {
    await unlink(draft).catch(() => undefined);
  }
}

/** Removes a dead holder's lock. Two that try at once may not remove the lock that the quicker one has just taken. */
async function evict(path: string, aside: string, mine: Holder): Promise<void> {
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const holder = await holderOf(aside);
  if (holder !== undefined && (await isAlive(holder, mine))) await link(aside, path).catch(() => undefined);
  await unlink(aside);
}

async function holderOf(path: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Holder;
  } catch {
    return undefined;
  }
}

async function isAlive(holder: Holder, mine: Holder): Promise<boolean> {
  // Another machine's processes cannot be looked at: believe its lock.
  if (holder.host !== mine.host) return true;
  if (holder.pid === mine.pid) return holder.started === mine.started;
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
  return holder.started === undefined || holder.started === (await startOf(holder.pid));
}

async function startOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${String(pid)}/stat`, "utf8");
    // Fields after the command's name, which stands in parentheses and may hold anything; the start time is field 22.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A killed process that nobody has waited for yet is a zombie: it holds nothing any more.
    return fields[0] === "Z" ? "dead" : fields[19];
  } catch {
    return undefined;
  }
}
