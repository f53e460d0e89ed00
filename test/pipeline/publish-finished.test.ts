import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { push, quantize, type PushEvent } from "#src/index.js";
import { DEMO_MODEL } from "../cli/cli.js";
import { contents, puts, startHubOfEnvironment } from "../publish/hub.js";

const root = mkdtempSync(join(tmpdir(), "finished-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

let hub: Awaited<ReturnType<typeof startHubOfEnvironment>>;
beforeEach(async () => { hub = await startHubOfEnvironment(); });
afterEach(() => hub.close());

/** A finished checkpoint, which tests copy. */
const whole = join(root, "whole");
const ROUNDED = { source: DEMO_MODEL, method: "rtn", maxShardSize: 200_000, threads: 1 } as const;
beforeAll(() => quantize({ ...ROUNDED, output: whole }));
const copied = (name: string): string => {
  cpSync(whole, join(root, name), { recursive: true });
  return join(root, name);
};
const card = (id = "org/new"): string => Buffer.from(contents(hub, "main", id)["README.md"], "base64").toString();

it("keeps what a person wrote in the card on the Hub, and says what it does not publish", async () => {
  const folder = copied("mine");
  await push({ folder, repo: "org/new" });
  const repo = hub.repo("model", "org/new")!;
  const edited = `${card()}\nWritten on the Hub.\n`;
  repo.commit("refs/heads/main", repo.at("main"), new Map([...repo.at("main")!.files, ["README.md", repo.stored("README.md", Buffer.from(edited))]]), "edited");
  expect((await push({ folder, repo: "org/new" })).changed).toBe(false);
  expect(card()).toBe(edited);
  writeFileSync(join(folder, "README.md"), `${readFileSync(join(folder, "README.md"), "utf8")}\nWritten here.\n`);
  const events: PushEvent[] = [];
  await push({ folder, repo: "org/new", onEvent: (event) => events.push(event) });
  expect(events).toContainEqual({ type: "warning", message: "org/new has a model card with text of its own, which stays; what is written in the local README.md is not published" });
  expect(card()).toBe(edited);
  await push({ folder, repo: "org/other" });
  expect(card("org/other")).toContain("\nWritten here.\n");
});

it("refuses what is not whole, or not what was written, before anything is made on the Hub", async () => {
  const folder = copied("damaged");
  const shard = join(folder, "model-00002-of-00004.safetensors");
  const bytes = readFileSync(shard);
  bytes[bytes.length - 1] ^= 1;
  writeFileSync(shard, bytes);
  await expect(push({ folder, repo: "org/new" })).rejects.toThrow(`${shard} is not what shardsmith.json says was written there; make the checkpoint again`);
  rmSync(shard);
  await expect(push({ folder, repo: "org/new" })).rejects.toThrow("model-00002-of-00004.safetensors");
  await expect(push({ folder: join(root, "nothing"), repo: "org/new" })).rejects.toThrow(`${join(root, "nothing")}: no such folder`);
  const unfinished = join(root, "unfinished");
  const controller = new AbortController();
  const stopped = quantize({ ...ROUNDED, output: unfinished, signal: controller.signal, onEvent: ({ type }) => { if (type === "layer") controller.abort(new Error("stopped")); } });
  await expect(stopped).rejects.toThrow("stopped");
  await expect(push({ folder: unfinished, repo: "org/new" })).rejects.toThrow(`${unfinished} holds a run that is not finished; finish it first, by the command that began it`);
  expect(puts(hub)).toEqual([]);
  expect(hub.repo("model", "org/new")).toBeUndefined();
});
