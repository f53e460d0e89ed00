import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { InputError } from "../../errors.js";
import type { Adapter } from "./adapter.js";

/** What the process that looks prints. */
export type Listed = { readonly adapters: readonly Adapter[] } | { readonly problem: string };

const SCRIPT = fileURLToPath(new URL("./adapters-process.js", import.meta.url));
const LONGEST_MS = 30_000;

/**
 * The adapters of this machine, the fastest first. Another process looks: drivers print to the terminal as they are loaded, and bad ones crash.
 * @throws {InputError} where there is none, saying what is missing
 */
export function listAdapters(): Promise<readonly Adapter[]> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [SCRIPT], { timeout: LONGEST_MS, encoding: "utf8" }, (error, stdout, stderr) => {
      try {
        const listed = JSON.parse(stdout) as Listed;
        if ("adapters" in listed) resolve(listed.adapters);
        else reject(new InputError([listed.problem, ...warningsIn(stderr)].join("\n")));
      } catch {
        const how = error?.signal ? `by ${error.signal}` : `with code ${String(error?.code)}`;
        reject(new InputError(`Looking for GPUs ended ${how}: a driver that crashes, perhaps. ${stderr.trim().split("\n").at(-1) ?? ""}`.trim()));
      }
    });
  });
}

/** What Dawn has against the drivers that it found. */
function warningsIn(printed: string): string[] {
  return [...new Set(printed.split("\n").flatMap((line) => /^Warning: (.*)/.exec(line)?.[1] ?? []))].map((warning) => `A driver was found and not taken: ${warning}`);
}
