import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { DEMO_MODEL, ONE_CORE, shardsmith } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "resume-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

// Several shards, so that some are finished when the run is killed, and others are not.
const BASE = ["quantize", DEMO_MODEL, "--json", ...ONE_CORE, "--samples", "12", "--sequence-length", "96", "--max-shard-size", "200kB", "--quality", "fast", "--refine", "1", "--awq"];
const KILLS = 18;

/** Every file but the report, which tells times. */
const contents = (folder: string): Record<string, string> =>
  Object.fromEntries(readdirSync(folder).filter((name) => name !== "shardsmith.json").sort().map((name) => [name, readFileSync(join(folder, name), "base64")]));

it.each([
  ["in memory", ["--retarget", "--memory", "1GB"]],
  ["spilled to files", ["--retarget", "--memory", "40kB"]],
  ["of one stream, spilled to files", ["--no-retarget", "--memory", "40kB"]],
])(`gives the same bytes after being killed at random moments, hidden states %s`, { timeout: 600_000 }, async (name, extra) => {
  const whole = join(root, `whole ${name}`);
  let events = 0;
  expect(await shardsmith([...BASE, ...extra, "-o", whole], () => (events += 1))).toMatchObject({ code: 0 });
  const expected = contents(whole);
  // Scales are folded, so that norms and linears of the stage before are written late.
  expect(readFileSync(join(whole, "shardsmith.json"), "utf8")).toContain('"awq": 1.');
  expect(Object.keys(expected).filter((file) => file.endsWith(".safetensors")).length).toBeGreaterThan(3);

  let kills = 0;
  let resumes = 0;
  for (let round = 0; kills < KILLS / 3; round += 1) {
    const output = join(root, `killed ${name} ${String(round)}`);
    for (;;) {
      // After some event, and some milliseconds more: in the middle of a write, a rename, a journal line.
      let countdown = Math.floor(Math.random() * events * 0.7);
      const delay = Math.random() * 15;
      const { code, stdout, stderr } = await shardsmith([...BASE, ...extra, "-o", output], (_, kill) => {
        countdown -= 1;
        if (countdown === 0) setTimeout(() => { kill("SIGKILL"); }, delay);
      });
      if (stdout.includes('"type":"resume"')) resumes += 1;
      if (code !== "SIGKILL") {
        expect({ code, stderr }).toMatchObject({ code: 0 });
        break;
      }
      kills += 1;
    }
    expect(contents(output)).toEqual(expected);
    rmSync(output, { recursive: true });
  }
  expect(resumes).toBeGreaterThan(0);
});

it("refuses hidden states of either stream that are not what was written", async () => {
  const output = join(root, "damaged");
  await shardsmith([...BASE, "--retarget", "-o", output], (line, kill) => {
    if (line.includes('"type":"layer","layer":2')) kill("SIGKILL");
  });
  const work = join(output, ".shardsmith");
  for (const stream of ["0", "1"]) {
    const kept = readdirSync(work).filter((name) => name.startsWith("hidden-") && name.endsWith(`-${stream}.bin`)).map((name) => join(work, name));
    expect(kept).toHaveLength(2);
    const before = kept.map((name) => readFileSync(name));
    before.forEach((bytes, i) => { writeFileSync(kept[i], bytes.map((byte, at) => (at === 1000 ? byte ^ 1 : byte))); });
    const { code, stderr } = await shardsmith([...BASE, "--retarget", "-o", output]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^.*: the hidden states after layer [12] are damaged; use --overwrite to start anew$/m);
    before.forEach((bytes, i) => { writeFileSync(kept[i], bytes); });
  }
  expect(await shardsmith([...BASE, "--retarget", "-o", output])).toMatchObject({ code: 0 });
});
