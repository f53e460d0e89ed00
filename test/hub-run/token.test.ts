import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { filesOf } from "../../scripts/loopback-hub/files-of.js";
import { startLoopbackHub, type Fault } from "../../scripts/loopback-hub/server.js";
import { DEMO_MODEL, ONE_CORE, shardsmith } from "../cli/cli.js";

const root = mkdtempSync(join(tmpdir(), "hub-token-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

const TOKEN = "hf_aSecretThatNobodyIsToSee";
const FILES = filesOf(DEMO_MODEL);

/** Every file under a folder, hidden ones too. */
function filesUnder(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => (statSync(join(folder, name)).isDirectory() ? filesUnder(join(folder, name)) : [join(folder, name)]));
}

it("never shows a token, nor sends it to the CDN, through runs that are refused, killed, and finished", async () => {
  const hub = await startLoopbackHub({ token: TOKEN, repos: [{ type: "model", id: "org/demo", files: FILES, private: true }] });
  const output = join(root, "out");
  const environment = (token: string): string => `export HF_ENDPOINT=${hub.url} HF_HOME='${root}' HF_TOKEN=${token}`;
  const command = ["quantize", "org/demo", "-o", output, ...ONE_CORE, "--samples", "2", "--sequence-length", "32", "--quality", "fast", "--refine", "0", "--no-awq", "--calibration", "builtin", "--push", "org/new", "--max-shard-size", "200kB"];
  try {
    // Whoever may not see it is told what to do.
    const refused = await shardsmith(command, undefined, environment("hf_ofSomebodyElse"));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^org\/demo: no such folder, and as a repo on the Hub: .*org\/demo.*token/);
    // Killed in the middle, it leaves a journal.
    const killed = await shardsmith([...command, "--json"], (line, kill) => { if (line.includes('"type":"layer","layer":1')) kill("SIGKILL"); }, environment(TOKEN));
    expect(killed.code).toBe("SIGKILL");
    const left = filesUnder(output).map((file) => readFileSync(file));
    const again = await shardsmith(command, undefined, environment(TOKEN));
    expect(again.code).toBe(0);
    const seen = [refused, killed, again].flatMap(({ stdout, stderr }) => [Buffer.from(stdout), Buffer.from(stderr)]);
    const published = [...hub.repo("model", "org/new")!.at("main")!.files.values()].map(({ bytes }) => Buffer.from(bytes));
    expect(published.length).toBeGreaterThan(5);
    for (const bytes of [...seen, ...left, ...published, ...filesUnder(output).map((file) => readFileSync(file))]) {
      expect(bytes.includes(TOKEN)).toBe(false);
      expect(bytes.includes("hf_ofSomebodyElse")).toBe(false);
    }
    const toCdn = hub.requests.filter(({ port }) => port === "cdn");
    expect(new Set(toCdn.map(({ method }) => method))).toEqual(new Set(["GET", "PUT"]));
    expect(toCdn.filter(({ authorization, url }) => authorization !== undefined || url.includes(TOKEN))).toEqual([]);
    expect(hub.requests.some(({ authorization }) => authorization === `Bearer ${TOKEN}`)).toBe(true);
  } finally {
    await hub.close();
  }
});

it("nor where a token is refused in the middle, errors repeat the request, and the CDN sends on to another host", { timeout: 120_000 }, async () => {
  /** What goes wrong: each once, at the first request that it is for. */
  const faults: { at: RegExp; kind: Fault }[] = [];
  let everywhere: Fault | undefined;
  const hub = await startLoopbackHub({
    token: TOKEN, repos: [{ type: "model", id: "org/demo", files: FILES, private: true }],
    fault: ({ port, method, url }) => {
      const at = faults.findIndex(({ at: pattern }) => pattern.test(`${method} ${url}`));
      return at >= 0 ? faults.splice(at, 1)[0].kind : port === "cdn" ? everywhere : undefined;
    },
  });
  const run = (output: string, ...more: string[]) =>
    shardsmith(["quantize", "org/demo", "-o", join(root, output), ...ONE_CORE, "--method", "rtn", "--no-search", "--push", "org/new", "--no-keep", "--max-shard-size", "200kB", ...more], undefined, `export HF_ENDPOINT=${hub.url} HF_HOME='${root}' HF_TOKEN=${TOKEN}`);
  const refusals: [RegExp, Fault, RegExp][] = [
    [/^GET \/org\/demo\/resolve\//, "refused", /the Hub does not accept the token/],
    [/^GET \/api\/models\/org\/demo\/tree\//, "echo", /answered with status 400: "Not with .*Bearer …/],
    [/^POST .*\/objects\/batch/, "refused", /the Hub does not accept the token/],
    [/^POST .*\/commit\//, "echo", /answered with status 400: "Not with .*Bearer …/],
  ];
  try {
    const seen: string[] = [];
    faults.push({ at: /^GET \/api\/models\/org\/demo\/revision\//, kind: "reset" });
    for (const [at, kind, message] of refusals) {
      faults.push({ at, kind });
      const { code, stdout, stderr } = await run("faulty", "--json");
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(message) as string });
      expect(faults).toEqual([]);
      seen.push(stdout, stderr);
    }
    expect(JSON.parse(seen[0].split("\n")[0])).toMatchObject({ type: "retry", request: `GET ${hub.url}/api/models/org/demo/revision/main`, why: "the connection was cut", next: 2, tries: 6, seconds: expect.any(Number) as number });
    everywhere = "elsewhere";
    faults.push({ at: /^PUT /, kind: "reset" });
    // Other weights, of which the Hub has none yet.
    const whole = await run("whole", "--bits", "8");
    expect(whole.code).toBe(0);
    const files = [...[join(root, "faulty"), join(root, "whole")].flatMap(filesUnder).map((file) => readFileSync(file)), ...[...hub.repo("model", "org/new")!.at("main")!.files.values()].map(({ bytes }) => Buffer.from(bytes))];
    for (const bytes of [...[...seen, whole.stdout, whole.stderr].map((text) => Buffer.from(text)), ...files]) expect(bytes.includes(TOKEN)).toBe(false);
    expect(whole.stderr).toMatch(/^Trying again in .* \(2 of 6\): the connection was cut, PUT http:/m);
    // Each file's address led on, and neither host was shown the token.
    expect(hub.requests.filter(({ status }) => status === 307).length).toBeGreaterThan(3);
    expect(hub.requests.filter(({ port, authorization, url }) => port === "cdn" && (authorization !== undefined || url.includes(TOKEN)))).toEqual([]);
  } finally {
    await hub.close();
  }
});
