// llama.cpp for our readers: node-llama-cpp with its prebuilt binaries for the CPU.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const VERSION = "3.22.1";
const BINARIES = { "linux x64": "linux-x64", "linux arm64": "linux-arm64", "darwin x64": "mac-x64", "darwin arm64": "mac-arm64-metal", "win32 x64": "win-x64" };

/** Installs it where it is not there yet. The module to import, in a process of its own, since its native code can take the whole process down; undefined where there are no binaries for this machine. */
export function installLlamaCpp() {
  const binaries = BINARIES[`${process.platform} ${process.arch}`];
  if (binaries === undefined) return undefined;
  const folder = ".llama-cpp";
  execFileSync("sh", [join(root, "scripts/install-reader.sh"), folder, `node-llama-cpp@${VERSION}`, `@node-llama-cpp/${binaries}@${VERSION}`], { stdio: "inherit" });
  return join(root, folder, "node_modules/node-llama-cpp/dist/index.js");
}
