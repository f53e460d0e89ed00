import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { FileBlob } from "#src/pipeline/file-blob.js";

const root = mkdtempSync(join(tmpdir(), "blob-"));
afterAll(() => { rmSync(root, { recursive: true, force: true }); });

const path = join(root, "file");
const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => i % 251));
beforeAll(() => { writeFileSync(path, bytes); });

it.each([
  [[], 0, bytes.length],
  [[10], 10, bytes.length],
  [[1_000_000, 2_500_001], 1_000_000, 2_500_001],
  [[2_999_999, 9_999_999], 2_999_999, bytes.length],
  [[5, 5], 5, 5],
  [[7, 3], 7, 7],
])("reads what a slice %j is", async (slice, start, end) => {
  const blob = new FileBlob(path, 0, bytes.length).slice(...slice);
  expect(blob.size).toBe(end - start);
  expect(Buffer.from(await blob.arrayBuffer()).equals(bytes.subarray(start, end))).toBe(true);
  // A slice of a slice counts from the slice.
  expect(Buffer.from(await blob.slice(1, 4).arrayBuffer()).equals(bytes.subarray(start, end).subarray(1, 4))).toBe(true);
});

it("reads from beyond 4 GiB", async () => {
  const large = join(root, "large");
  const size = 5 * 2 ** 30;
  // A hole takes no disk.
  const file = await open(large, "w");
  await file.write(Buffer.from("end"), 0, 3, size - 3);
  await file.close();
  expect(await new FileBlob(large, 0, size).slice(size - 5).text()).toBe("\0\0end");
});

it("says so when the file is cut while it is sent", async () => {
  const cut = join(root, "cut");
  writeFileSync(cut, "whole");
  const blob = new FileBlob(cut, 0, 5);
  truncateSync(cut, 2);
  await expect(blob.text()).rejects.toThrow(`${cut} is shorter than it was: it changed while it was sent`);
});

it.skipIf(!existsSync("/proc/self/fd"))("holds no file open that is read in part", async () => {
  const reader = new FileBlob(path, 0, bytes.length).stream().getReader();
  const { value } = await reader.read();
  expect(value!.length).toBe(1 << 20);
  // The next piece is being read already.
  await vi.waitFor(() => {
    expect(readdirSync("/proc/self/fd").filter((fd) => { try { return readlinkSync(`/proc/self/fd/${fd}`) === path; } catch { return false; } })).toEqual([]);
  });
});
