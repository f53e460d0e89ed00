// What programs that load our output have in common: they say on their standard output how each case went.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/**
 * Runs such a program: each line that it prints is JSON, a result { case, check, ok, detail }, { versions }, or { case, done: true } where
 * it is through with a case. Yields the former two, and a failed result for each of `cases` that it did not come to the end of.
 * What it says on its standard error is shown where anything failed.
 */
export async function* runReader(command, args, cases, env = process.env) {
  const reader = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let noise = "";
  reader.stderr.setEncoding("utf8").on("data", (text) => (noise = (noise + text).slice(-20_000)));
  const exited = new Promise((resolve, reject) => reader.on("error", reject).on("close", resolve));
  const done = new Set();
  let failed = false;
  for await (const line of createInterface({ input: reader.stdout })) {
    const result = JSON.parse(line);
    if (result.done) done.add(result.case);
    else {
      failed ||= result.ok === false;
      yield result;
    }
  }
  const code = await exited;
  const results = cases.filter((name) => !done.has(name)).map((name) => ({ case: name, check: "run", ok: false, detail: `the reader did not come to its end (exit ${code})` }));
  if (code !== 0 && results.length === 0) results.push({ case: args[0], check: "run", ok: false, detail: `exit ${code}` });
  yield* results;
  if (failed || results.length > 0) console.log(noise);
}
