import { mkdir, mkdtemp, readdir, readlink, rm, symlink, utimes, writeFile, chmod } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { InputError } from "#src/errors.js";
import { openFolder } from "#src/source/folder.js";

let root: string;
const at = (...names: string[]): string => join(root, ...names);

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "shardsmith-folder-"));
  await mkdir(at("model", "sub"), { recursive: true });
  await writeFile(at("model", "b.bin"), Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7));
  await writeFile(at("model", "a.json"), "{}");
  await writeFile(at("blob"), "linked");
  await symlink(at("blob"), at("model", "link.txt"));
  await symlink(at("nowhere"), at("model", "broken.txt"));
  await writeFile(at("x.safetensors"), "");
  await writeFile(at("x.gguf"), "");
  await mkdir(at("closed"));
  await chmod(at("closed"), 0);
  await mkdir(at("many"));
  for (let i = 0; i < 20; i++) await writeFile(at("many", `f${i}`), `file ${i}`);
});

afterAll(() => rm(root, { recursive: true }));

describe("refuses", () => {
  test.each([
    ["nowhere", "no such folder"],
    ["blob/x", "no such folder, since a part of this path is a file"],
    ["blob", "is not a folder; give a checkpoint's folder, with config.json and safetensors files"],
    ["x.safetensors", "is a single file; give the folder that holds it, with its config.json and tokenizer"],
    ["x.gguf", "is a GGUF file, which is quantized already; give the folder of the original checkpoint, in safetensors"],
  ])("%s", async (name, message) => {
    await expect(openFolder(at(name))).rejects.toThrow(new InputError(`${at(name)}: ${message}`));
  });

  test.skipIf(process.platform === "win32")("a folder that may not be read", async () => {
    // Root may read everything: become somebody else.
    const isRoot = process.geteuid!() === 0;
    if (isRoot) await chmod(at(), 0o755);
    if (isRoot) process.seteuid!(65_534);
    try {
      await expect(openFolder(at("closed"))).rejects.toThrow(new InputError(`${at("closed")}: no permission to read it`));
    } finally {
      if (isRoot) process.seteuid!(0);
    }
  });

  test.each(["../blob", "sub/x", "/etc/passwd", "..", ".", "", "a\0"])("%j as the name of a file", async (name) => {
    const folder = await openFolder(at("model"));
    const error = new InputError(`${at("model")}: ${JSON.stringify(name)} is not the name of a file in this folder`);
    await expect(folder.read(name, 0, 1)).rejects.toThrow(error);
    await expect(folder.fingerprint(name)).rejects.toThrow(error);
  });

  test("files that are missing or short, and goes on", async () => {
    const folder = await openFolder(at("model"));
    await expect(folder.read("c.bin", 0, 1)).rejects.toThrow(new InputError(`${at("model", "c.bin")}: no such file`));
    await expect(folder.fingerprint("c.bin")).rejects.toThrow(new InputError(`${at("model", "c.bin")}: no such file`));
    await expect(folder.read("sub", 0, 1)).rejects.toThrow(new InputError(`${at("model", "sub")}: is a folder, not a file`));
    await expect(folder.read("b.bin", 4, 9)).rejects.toThrow(new InputError(`${at("model", "b.bin")}: ends at byte 8, but bytes 4 to 9 were wanted`));
    await writeFile(at("model", "c.bin"), "now");
    expect(await folder.read("c.bin", 0, 3)).toEqual(new TextEncoder().encode("now"));
    await rm(at("model", "c.bin"));
    await folder.close();
  });
});

test("lists regular files, and links to them, with their sizes", async () => {
  const folder = await openFolder(at("model"));
  expect([...(await folder.list())]).toEqual([["a.json", 2], ["b.bin", 8], ["link.txt", 6]]);
  expect(folder.label).toBe(at("model"));
});

test("reads ranges, in memory of their own", async () => {
  const folder = await openFolder(at("model"));
  const [all, some, none] = await Promise.all([folder.read("b.bin", 0, 8), folder.read("b.bin", 2, 5), folder.read("b.bin", 3, 3)]);
  expect([[...all], [...some], [...none]]).toEqual([[0, 1, 2, 3, 4, 5, 6, 7], [2, 3, 4], []]);
  expect(some.buffer.byteLength).toBe(3);
  await folder.close();
});

test("a fingerprint changes with size and time of modification, and with nothing else", async () => {
  const folder = await openFolder(at("model"));
  const file = at("model", "b.bin");
  const before = await folder.fingerprint("b.bin");
  await folder.read("b.bin", 0, 8);
  expect(await folder.fingerprint("b.bin")).toBe(before);
  await utimes(file, 1, 1);
  const older = await folder.fingerprint("b.bin");
  expect(older).toBe("8 bytes, modified 1000000000");
  await writeFile(file, Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8));
  await utimes(file, 1, 1);
  expect(await folder.fingerprint("b.bin")).toBe("9 bytes, modified 1000000000");
  await writeFile(file, Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7));
  await folder.close();
});

/** How many files under `root` this process holds open. */
async function openFiles(): Promise<number> {
  const targets = await Promise.all((await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")));
  return targets.filter((target) => target.startsWith(root)).length;
}

test.skipIf(process.platform !== "linux")("keeps few files open, whatever is read at once, and none after close", async () => {
  const folder = await openFolder(at("many"));
  const reads = Array.from({ length: 200 }, async (_, i) => {
    const text = new TextDecoder().decode(await folder.read(`f${(i * 7) % 20}`, 0, 6));
    expect(text).toBe(`file ${(i * 7) % 20}`.slice(0, 6));
  });
  await Promise.all(reads);
  expect(await openFiles()).toBe(8);
  await folder.close();
  expect(await openFiles()).toBe(0);
  await expect(folder.read("f1", 0, 1)).rejects.toThrow("is closed");
});

test.skipIf(process.platform !== "linux")("closing waits for nobody, and loses no read", async () => {
  const folder = await openFolder(at("many"));
  const reads = Array.from({ length: 20 }, (_, i) => folder.read(`f${i}`, 0, 6));
  await folder.close();
  for (const bytes of await Promise.all(reads)) expect(bytes).toHaveLength(6);
  expect(await openFiles()).toBe(0);
});
