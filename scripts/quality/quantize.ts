import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** What a piece of work cost. */
export interface Cost {
  /** Wall time. */
  readonly seconds: number;
  /** User and system time of all threads. */
  readonly cpuSeconds: number;
  readonly peakBytes: number;
}

/** Runs `shardsmith quantize` as a process of its own, start and end counted. Whatever lay in `output` is replaced. */
export async function quantize(model: string, output: string, options: readonly string[]): Promise<Cost> {
  const began = performance.now();
  const cpu = childrensSeconds();
  const command = [fileURLToPath(new URL("../../dist/src/cli/main.js", import.meta.url)), "quantize", model, "-o", output, "--overwrite", "--json", ...options];
  const child = spawn(process.execPath, command, { stdio: ["ignore", "ignore", "inherit"] });
  let peakBytes = 0;
  const poll = setInterval(() => {
    try {
      peakBytes = Math.max(peakBytes, 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid!}/status`, "utf8"))![1]));
    } catch {
      // It has just ended, or this is no Linux.
    }
  }, 100);
  const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  clearInterval(poll);
  if (code !== 0) throw new Error(`shardsmith ${command.slice(1).join(" ")}: exit code ${String(code)}`);
  return { seconds: (performance.now() - began) / 1000, cpuSeconds: childrensSeconds() - cpu, peakBytes };
}

/** Of the processes that this one started and saw end. */
function childrensSeconds(): number {
  const fields = readFileSync("/proc/self/stat", "utf8").replace(/^.*\) /, "").split(" ");
  // cutime and cstime, proc(5)'s fields 16 and 17, of which the first two are cut off; in hundredths of a second on every Linux.
  return (Number(fields[13]) + Number(fields[14])) / 100;
}
