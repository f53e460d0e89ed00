// Brings a clone to where everything runs: installs what package-lock.json names if it is not there yet, and compiles.
import { execFileSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const installed = `${root}node_modules/.package-lock.json`;
const run = (...args) => execFileSync("npm", args, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });

if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(`${root}package-lock.json`).mtimeMs) {
  console.log("Installing what package-lock.json names …");
  run("ci", "--ignore-scripts", "--loglevel=error");
}
run("run", "build", "--silent");
