import { mkdtemp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { InputError } from "#src/errors.js";
import { builtinCalibrationText, readTextFiles } from "#src/source/text-files.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "shardsmith-text-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, content);
  return path;
}

describe("readTextFiles", () => {
  it("reads one file of any name, without its byte-order mark", async () => {
    const path = await write("one.dat", "\ufeffgrün\r\n");
    expect(await readTextFiles(path)).toEqual([{ name: path, text: "grün\r\n" }]);
  });

  it("reads a folder's .txt and .jsonl files, sorted by name", async () => {
    const root = join(folder, "many");
    for (const name of ["b.txt", "B.TXT", "a10.jsonl", "a9.txt", "readme.md", "deeper/c.txt"]) await write(join("many", name), name);
    expect((await readTextFiles(root)).map(({ name, text }) => [name, text])).toEqual(
      ["B.TXT", "a10.jsonl", "a9.txt", "b.txt"].map((name) => [join(root, name), name]),
    );
  });

  it("refuses what is not there, empty or not UTF-8, by name", async () => {
    const missing = join(folder, "missing.txt");
    const empty = await write("empty.txt", "");
    const latin1 = await write("bad/latin1.txt", Uint8Array.of(0x67, 0x72, 0xfc, 0x6e));
    const none = await write("none/readme.md", "x");
    await expect(readTextFiles(missing)).rejects.toThrow(new InputError(`${missing}: cannot be read (ENOENT)`));
    await expect(readTextFiles(empty)).rejects.toThrow(new InputError(`${empty}: is empty`));
    await expect(readTextFiles(latin1)).rejects.toThrow(new InputError(`${latin1}: is not UTF-8 text`));
    await expect(readTextFiles(join(latin1, ".."))).rejects.toThrow(new InputError(`${latin1}: is not UTF-8 text`));
    await expect(readTextFiles(join(none, ".."))).rejects.toThrow(new InputError(`${join(none, "..")}: has no .txt or .jsonl file`));
  });
});

describe("builtinCalibrationText", () => {
  it("is every text of calibration-data/, in order", async () => {
    const data = new URL("../../calibration-data/", import.meta.url);
    const names = (await readdir(data)).filter((name) => name.endsWith(".txt")).sort();
    const files = await builtinCalibrationText();
    expect(files.map((file) => file.name)).toEqual(names.map((name) => `built-in ${name}`));
    expect(names).toContain("multilingual.txt");
    for (const [i, name] of names.entries()) expect(files[i].text).toBe(await readFile(new URL(name, data), "utf8"));
  });
});
