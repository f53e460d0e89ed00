import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { DEMO_MODEL, ONE_CORE, shardsmith } from "./cli.js";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const root = mkdtempSync(join(tmpdir(), "hub-cache-"));
afterAll(() => { rmSync(root, { recursive: true }); });
// As `hf download org/demo` leaves it where links cannot be had.
const repo = join(root, "models--org--demo");
mkdirSync(join(repo, "refs"), { recursive: true });
writeFileSync(join(repo, "refs", "main"), COMMIT);
cpSync(DEMO_MODEL, join(repo, "snapshots", COMMIT), { recursive: true });
const offline = `export HF_HUB_OFFLINE=1 HF_HUB_CACHE='${root}'`;

it("takes a model of the Hub from the cache on this machine, with the same result as from a folder", async () => {
  const options = [...ONE_CORE, "--method", "rtn", "--group-size", "32"];
  const [ofHub, ofFolder] = [join(root, "of-hub"), join(root, "of-folder")];
  const { code, stderr } = await shardsmith(["quantize", "org/demo", "-o", ofHub, ...options], undefined, offline);
  expect(code).toBe(0);
  expect(stderr).toContain(`org/demo@01234567 (offline, in ${root}) → ${ofHub}: rtn, 4 bits, groups of 32, format gptq\n`);
  expect((await shardsmith(["quantize", DEMO_MODEL, "-o", ofFolder, ...options])).code).toBe(0);
  for (const file of ["model.safetensors", "config.json"]) expect(readFileSync(join(ofHub, file)).equals(readFileSync(join(ofFolder, file)))).toBe(true);
  expect((JSON.parse(readFileSync(join(ofHub, "shardsmith.json"), "utf8")) as { hub: object }).hub).toMatchObject({ repo: "org/demo", commit: COMMIT });
});

it("publishes nothing when it is told to be offline", async () => {
  const { code, stderr } = await shardsmith(["quantize", "org/demo", "-o", join(root, "pushed"), "--method", "rtn", "--group-size", "32", "--push", "me/new"], undefined, offline);
  expect([code, stderr]).toEqual([1, "me/new: HF_HUB_OFFLINE is set, so that nothing can be published; unset it\n"]);
});

it("says what the cache lacks", async () => {
  expect(await shardsmith(["plan", "org/other"], undefined, offline)).toEqual({
    code: 1, stdout: "",
    stderr: `org/other: no such folder, and as a repo on the Hub: https://huggingface.co/org/other: HF_HUB_OFFLINE is set, and the cache at ${root} does not hold revision "main"; fetch it once with \`hf download org/other\`, or unset HF_HUB_OFFLINE\n`,
  });
});
