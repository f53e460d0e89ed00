// `npm run lint`: types, rules, and what nothing uses, side by side, since each takes a core for half a minute.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const CHECKS = [["tsc", "-p", "test/tsconfig.json"], ["eslint", "-c", "scripts/eslint.config.js", "kernels", "src", "scripts", "test"], ["knip"]];

/** Shows what it says when it ends, so that the outputs do not mix. @returns whether it found nothing */
const passes = ([command, ...args]) => new Promise((resolve, reject) => {
  const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"], shell: process.platform === "win32" });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (said += text));
  child.on("error", reject).on("close", (code) => {
    if (code !== 0) console.error(`${command} failed:`);
    process.stderr.write(said);
    resolve(code === 0);
  });
});

process.exitCode = (await Promise.all(CHECKS.map(passes))).every(Boolean) ? 0 : 1;
