import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url));

/** A small Llama with random weights; its tokenizer is the demo model's. */
export const DEMO_MODEL = fileURLToPath(new URL("../fixtures/demo-model", import.meta.url));

/** For runs beside other tests: a core each, and no look for a GPU. */
export const ONE_CORE = ["--threads", "1", "--device", "cpu"] as const;

export interface Ran {
  /** Exit code, or the signal that ended it. */
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command line as a person would. `onLine` sees each line of stdout as it comes, and may end the process. */
export function shardsmith(args: readonly string[], onLine?: (line: string, kill: (signal: NodeJS.Signals) => void) => void, shell?: string): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = shell === undefined
      ? spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] })
      : spawn("bash", ["-c", `${shell}; exec "$0" "$@"`, process.execPath, MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    let seen = 0;
    child.stdout.on("data", (data: Buffer) => {
      stdout += data.toString();
      for (let end = stdout.indexOf("\n", seen); end >= 0; end = stdout.indexOf("\n", seen)) {
        onLine?.(stdout.slice(seen, end), (signal) => child.kill(signal));
        seen = end + 1;
      }
    });
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    child.once("error", reject);
    child.once("close", (code, signal) => { resolve({ code: code ?? signal!, stdout, stderr }); });
  });
}
