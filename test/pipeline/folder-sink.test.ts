import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openFolderSink } from "#src/pipeline/folder-sink.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sink-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const bytes = (...values: number[]): Uint8Array<ArrayBuffer> => Uint8Array.from(values);

it("gives a shard its name only when it is whole", async () => {
  const sink = await openFolderSink(folder);
  await sink.writeShard("model.safetensors", 2, bytes(3, 4));
  expect(readdirSync(folder)).toEqual([".shardsmith"]);
  await sink.writeShard("model.safetensors", 0, bytes(1, 2));
  const sha256 = await sink.finishShard("model.safetensors", 4);
  await sink.close();
  expect([...readFileSync(join(folder, "model.safetensors"))]).toEqual([1, 2, 3, 4]);
  expect(sha256).toBe(createHash("sha256").update(bytes(1, 2, 3, 4)).digest("hex"));
});

it("keeps an unfinished shard and the journal for the next run", async () => {
  const first = await openFolderSink(folder);
  await first.log("one");
  await first.writeShard("a.safetensors", 0, bytes(1, 2, 3));
  await first.close();
  const second = await openFolderSink(folder);
  expect(await second.journal()).toEqual(["one"]);
  await second.writeShard("a.safetensors", 3, bytes(4));
  await second.finishShard("a.safetensors", 4);
  expect([...readFileSync(join(folder, "a.safetensors"))]).toEqual([1, 2, 3, 4]);
  expect(await second.hash("a.safetensors", 4)).toBe(createHash("sha256").update(bytes(1, 2, 3, 4)).digest("hex"));
  expect(await second.hash("a.safetensors", 5)).toBeUndefined();
  await second.complete();
  await second.close();
  expect(readdirSync(folder)).toEqual(["a.safetensors"]);
});

it("keeps lines apart that are logged at the same time", async () => {
  const sink = await openFolderSink(folder);
  const lines = Array.from({ length: 50 }, (_, i) => `line ${String(i)} ${"x".repeat(i)}`);
  await Promise.all(lines.map((line) => sink.log(line)));
  expect(await sink.journal()).toEqual(lines);
  await sink.close();
});

it("leaves out a journal line that was cut, and writes the next one in its place", async () => {
  const first = await openFolderSink(folder);
  await first.log("one");
  await first.close();
  writeFileSync(join(folder, ".shardsmith", "journal.jsonl"), "one\ntw");
  const second = await openFolderSink(folder);
  expect(await second.journal()).toEqual(["one"]);
  await second.log("three");
  expect(await second.journal()).toEqual(["one", "three"]);
  await second.close();
});

it("resets to nothing: no journal, no checkpoint, but the person's other files", async () => {
  for (const name of ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "notes.txt"]) writeFileSync(join(folder, name), "x");
  const sink = await openFolderSink(folder);
  await sink.log("one");
  await sink.reset();
  expect(await sink.journal()).toEqual([]);
  await sink.close();
  expect(readdirSync(folder)).toEqual(["notes.txt"]);
});

it("lets no second run in while the first lives, and takes over from one that was killed", async () => {
  const sink = await openFolderSink(folder);
  await expect(openFolderSink(folder)).rejects.toThrow(
    new RegExp(`^${folder} is in use by another run \\(process ${String(process.pid)} on .*\\)\\. Wait for it, or stop it\\. If there is no such run, delete ${folder}/\\.shardsmith/lock$`),
  );
  await sink.close();

  const holder = spawn(process.execPath, ["--input-type=module", "-e", `
    import { openFolderSink } from ${JSON.stringify(new URL("../../dist/src/pipeline/folder-sink.js", import.meta.url).href)};
    await openFolderSink(${JSON.stringify(folder)});
    console.log("locked");
    setInterval(() => {}, 1000);
  `], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => holder.stdout.once("data", resolve));
  await expect(openFolderSink(folder)).rejects.toThrow(`is in use by another run (process ${String(holder.pid)} on`);
  const gone = new Promise((resolve) => holder.once("exit", resolve));
  holder.kill("SIGKILL");
  await gone;
  const next = await openFolderSink(folder);
  await next.close();
});

it("says what is wrong when the folder cannot be made", async () => {
  const file = join(folder, "file");
  writeFileSync(file, "");
  await expect(openFolderSink(join(file, "out"))).rejects.toThrow(
    `cannot write to ${join(file, "out")}: it, or a part of its path, is not a folder. What was finished is kept; run the same command again to go on`,
  );
});
