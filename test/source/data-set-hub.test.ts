import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import type { DataSetFiles } from "#src/source/data-set-files.js";
import { openHubDataSet } from "#src/source/data-set-hub.js";
import { documentsDrawn } from "#src/source/data-set.js";
import { hubCacheOfEnvironment } from "#src/source/hub-cache.js";
import { ENDPOINT, redirect, scriptedHub, type Sent } from "../hub/scripted.js";
import { fixture, take } from "./data-set-fixtures.js";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const CONTENT = fixture("texts.parquet");

/** A Hub that has one data set, of which the file lies elsewhere. */
function answer({ url, headers }: Sent): Response {
  const { origin, pathname } = new URL(url);
  if (origin === "https://cdn.test") {
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(headers.get("range") ?? "")!.map(Number);
    return new Response(CONTENT.slice(start, end + 1), { status: 206, headers: { "content-range": `bytes ${String(start)}-${String(end)}/${String(CONTENT.length)}`, etag: '"x"' } });
  }
  if (pathname.startsWith("/api/datasets/org/set/revision/")) return Response.json({ sha: COMMIT });
  if (pathname.startsWith(`/api/datasets/org/set/tree/${COMMIT}`)) return Response.json([{ type: "file", path: "en/train.parquet", size: CONTENT.length, oid: "a", lfs: { oid: "ab".repeat(32), size: CONTENT.length } }]);
  if (pathname === `/datasets/org/set/resolve/${COMMIT}/en/train.parquet`) return redirect("https://cdn.test/x?signature=1", 302, { "x-repo-commit": COMMIT, "x-linked-size": String(CONTENT.length), "x-linked-etag": `"${"ab".repeat(32)}"` });
  return new Response(null, { status: 404, headers: { "x-error-code": "RepoNotFound" } });
}

it("reads a commit that was resolved once, in ranges, without its token anywhere else", async () => {
  const { hub, sent } = scriptedHub(answer);
  const files = await openHubDataSet(hub, "org/set", "v1", { folder: "en" });
  expect({ ...files, files: [...files.files] }).toMatchObject({ label: "org/set@01234567", repo: "org/set", commit: COMMIT, files: [["en/train.parquet", CONTENT.length]] });
  expect(await take(documentsDrawn(files, { paths: ["en/train.parquet"], seed: 0 }), 3)).toHaveLength(3);
  expect(sent.slice(0, 2).map(({ url }) => url)).toEqual([`${ENDPOINT}/api/datasets/org/set/revision/v1`, `${ENDPOINT}/api/datasets/org/set/tree/${COMMIT}/en?recursive=true&expand=false`]);
  for (const { url, headers } of sent.slice(2)) {
    expect(url).toMatch(new RegExp(`^(${ENDPOINT}/datasets/org/set/resolve/${COMMIT}/en/train\\.parquet|https://cdn\\.test/.*)$`));
    expect(headers.has("authorization")).toBe(url.startsWith(ENDPOINT));
  }
  const bytes = sent.filter(({ url }) => url.startsWith("https://cdn.test/")).reduce((sum, { headers }) => {
    const [, start, end] = /(\d+)-(\d+)/.exec(headers.get("range")!)!.map(Number);
    return sum + end + 1 - start;
  }, 0);
  expect(bytes).toBeLessThan(64 * 1024 + 1500);
});

describe("the cache on this machine", () => {
  const home = mkdtempSync(join(tmpdir(), "data-set-cache-"));
  afterAll(() => { rmSync(home, { recursive: true }); });
  // As huggingface_hub lays it out: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
  const folder = join(home, "hub/datasets--org--set");
  const snapshot = join(folder, "snapshots", COMMIT, "en");
  for (const path of [snapshot, join(folder, "refs"), join(folder, "blobs")]) mkdirSync(path, { recursive: true });
  writeFileSync(join(folder, "refs/main"), COMMIT);
  writeFileSync(join(folder, "blobs", "ab".repeat(32)), CONTENT);
  symlinkSync(`../../../blobs/${"ab".repeat(32)}`, join(snapshot, "train.parquet"));
  const texts = (files: DataSetFiles) => take(documentsDrawn(files, { paths: ["en/train.parquet"], seed: 0 }), 3);

  it("gives what it holds of the commit", async () => {
    const { hub, sent } = scriptedHub(answer);
    const files = await openHubDataSet(hub, "org/set", undefined, { cache: hubCacheOfEnvironment({ HF_HOME: home }) });
    expect(await texts(files)).toEqual(await texts(await openHubDataSet(scriptedHub(answer).hub, "org/set")));
    expect(sent).toHaveLength(2);
  });

  it("is all there is when HF_HUB_OFFLINE is set", async () => {
    const { hub, sent } = scriptedHub(answer);
    const cache = hubCacheOfEnvironment({ HF_HUB_CACHE: join(home, "hub"), HF_HUB_OFFLINE: "1" });
    const files = await openHubDataSet(hub, "org/set", undefined, { cache });
    expect({ ...files, files: [...files.files] }).toMatchObject({ label: `org/set@01234567 (offline, in ${join(home, "hub")})`, repo: "org/set", commit: COMMIT, files: [["en/train.parquet", CONTENT.length]] });
    expect(await texts(files)).toHaveLength(3);
    await expect(files.read("en/../../x", 0, 1)).rejects.toThrow(InputError);
    await expect(openHubDataSet(hub, "org/other", undefined, { cache })).rejects.toThrow(
      new InputError(`${ENDPOINT}/datasets/org/other: HF_HUB_OFFLINE is set, and the cache at ${join(home, "hub")} does not hold revision "main"; fetch it once with \`hf download org/other --repo-type dataset\`, or unset HF_HUB_OFFLINE`),
    );
    expect(sent).toEqual([]);
  });
});

it("says what the Hub says of sets that are not there", async () => {
  await expect(openHubDataSet(scriptedHub(answer).hub, "org/none")).rejects.toThrow(
    new InputError(`${ENDPOINT}/datasets/org/none: there is no such data set, or the token may not see it; check the name on that page, and the token's rights at ${ENDPOINT}/settings/tokens`),
  );
});
