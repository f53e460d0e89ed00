import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { InputError } from "#src/errors.js";
import { base64, contents, open, puts, send, shardOf, startHub, text, TOKEN, weights } from "./hub.js";

let hub: Awaited<ReturnType<typeof startHub>>;
beforeEach(async () => { hub = await startHub(); });
afterEach(() => hub.close());

const A = weights(500, 3);
const B = weights(4321, 5);
const SMALL = new Map([["config.json", text('{"a": 1}\n')], ["README.md", text("# ü\n")], ["empty.txt", text("")], ["vocab.bin", weights(300)]]);
const ALL = base64({ "a.safetensors": A, "b.safetensors": B, ...Object.fromEntries(SMALL) });
const commits = (revision = "main"): string[] => hub.repo("model", "org/new")!.history(hub.repo("model", "org/new")!.at(revision)).map(({ title }) => title);
const SUMMARY = "Upload a checkpoint quantized with Shardsmith";

it("shows nothing before the commit, and then all of it, byte for byte, in one", async () => {
  const seen: number[] = [];
  const publisher = await open(hub, {}, { onBytes: ({ name }, bytes) => { if (name === "b.safetensors") seen.push(bytes); } });
  await send(publisher, "a.safetensors", A);
  await send(publisher, "b.safetensors", B);
  expect(contents(hub)).toEqual({});
  expect(await publisher.commit(SMALL)).toEqual({ url: `${hub.url}/org/new`, changed: true });
  expect(contents(hub)).toEqual(ALL);
  expect(commits()).toEqual([SUMMARY, "initial commit"]);
  expect(Math.max(...seen)).toBe(B.length);
  expect(puts(hub).filter(({ authorization }) => authorization !== undefined)).toEqual([]);
});

it("sends no byte and makes no commit where all of it is there", async () => {
  for (let round = 0; round < 2; round += 1) {
    const publisher = await open(hub);
    await send(publisher, "a.safetensors", A);
    await send(publisher, "b.safetensors", B);
    expect((await publisher.commit(SMALL)).changed).toBe(round === 0);
  }
  // One shard whole, the other in five parts, and a small file that is no text.
  expect(puts(hub)).toHaveLength(7);
  expect(commits()).toEqual([SUMMARY, "initial commit"]);
});

it("takes away the weights of a checkpoint that stood there, and leaves what is a person's", async () => {
  const publisher = await open(hub);
  await send(publisher, "model.safetensors", A);
  await publisher.commit(new Map([["config.json", text("{}")], ["quantize_config.json", text("{}")], ["notes.txt", text("mine")]]));
  const again = await open(hub);
  await send(again, "model-00001-of-00001.safetensors", B);
  await again.commit(new Map([["config.json", text("{}")]]));
  expect(Object.keys(contents(hub)).sort()).toEqual(["config.json", "model-00001-of-00001.safetensors", "notes.txt"]);
});

it("tells the card that stands there", async () => {
  const publisher = await open(hub);
  expect(await publisher.card()).toBeUndefined();
  await publisher.commit(new Map([["README.md", text("# ü\n")]]));
  expect(await publisher.card()).toBe("# ü\n");
});

describe("when the network fails", () => {
  it("goes on in the middle of an upload in parts, and sends no finished part again", async () => {
    const publisher = await open(hub);
    hub.faults.push({ at: /^PUT .*partNumber=2/, kind: "cut" }, { at: /^PUT .*partNumber=2/, kind: "503" }, { at: /^PUT .*partNumber=/, kind: "reset" });
    await send(publisher, "b.safetensors", B);
    await publisher.commit(new Map());
    expect(contents(hub)).toEqual(base64({ "b.safetensors": B }));
    const taken = puts(hub).filter(({ status }) => status === 200).map(({ url }) => new URL(url, hub.url).searchParams.get("partNumber"));
    expect(taken.sort()).toEqual(["1", "2", "3", "4", "5"]);
    expect(hub.faults).toEqual([]);
  });

  it("asks for addresses anew where they are over", async () => {
    const publisher = await open(hub);
    hub.faults.push({ at: /^PUT .*partNumber=3/, kind: "expired" }, { at: /^PUT /, kind: "expired" });
    await send(publisher, "b.safetensors", B);
    await send(publisher, "a.safetensors", A);
    await publisher.commit(new Map());
    expect(contents(hub)).toEqual(base64({ "a.safetensors": A, "b.safetensors": B }));
  });

  it("gives up where no address takes anything", async () => {
    const publisher = await open(hub);
    for (let i = 0; i < 4; i += 1) hub.faults.push({ at: /^PUT /, kind: "expired" });
    await expect(send(publisher, "a.safetensors", A)).rejects.toThrow(
      new RegExp(`^${hub.url}/org/new: a\\.safetensors cannot be sent: 127\\.0\\.0\\.1:\\d+ answers with status 403 \\(request id Root=1-loopback-\\d+\\); run the same command again to go on$`),
    );
  });

  it("does nothing twice where only the answer was lost", async () => {
    const at = [/^POST \/api\/repos\/create/, /^POST .*\/branch\//, /^POST .*objects\/batch/, /^PUT /, /^POST .*complete_multipart/, /^POST .*\/preupload\//, /^POST .*\/commit\//];
    const titles: Record<string, string> = {};
    for (const [i, pattern] of at.entries()) {
      hub.faults.push({ at: pattern, kind: "lost" });
      const publisher = await open(hub, { repo: `org/lost-${String(i)}`, revision: "next" });
      await send(publisher, "b.safetensors", B);
      expect((await publisher.commit(SMALL)).changed).toBe(true);
      expect(hub.faults).toEqual([]);
      const repo = hub.repo("model", `org/lost-${String(i)}`)!;
      titles[i] = repo.history(repo.at("next")).map(({ title }) => title).join();
      expect(contents(hub, "next", repo.id)).toEqual(base64({ "b.safetensors": B, ...Object.fromEntries(SMALL) }));
    }
    expect(new Set(Object.values(titles))).toEqual(new Set([`${SUMMARY},initial commit`]));
  });

  it("opens no second pull request where the answer was lost, and says where to look", async () => {
    const publisher = await open(hub, { createPr: true });
    hub.faults.push({ at: /^POST .*\/commit\//, kind: "lost" });
    await expect(publisher.commit(SMALL)).rejects.toThrow(
      new RegExp(`^POST ${hub.url}/api/models/org/new/commit/main: .*; given up after one try; see whether the pull request is at ${hub.url}/org/new/discussions, and if not, run the same command again$`),
    );
    expect([...hub.repo("model", "org/new")!.refs.keys()]).toEqual(["refs/heads/main", "refs/pr/1"]);
  });

  it("ends at once when it is told to, and the same goes on", async () => {
    const controller = new AbortController();
    const publisher = await open(hub, {}, { signal: controller.signal });
    await send(publisher, "a.safetensors", A);
    hub.faults.push({ at: /^PUT .*partNumber=4/, kind: "stall" });
    const stopped = new Error("stopped");
    const sending = send(publisher, "b.safetensors", B);
    while (hub.faults.length > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    controller.abort(stopped);
    await expect(sending).rejects.toBe(stopped);
    const again = await open(hub);
    const before = puts(hub).length;
    await send(again, "a.safetensors", A);
    expect(puts(hub)).toHaveLength(before);
    await send(again, "b.safetensors", B);
    await again.commit(new Map());
    expect(contents(hub)).toEqual(base64({ "a.safetensors": A, "b.safetensors": B }));
  });

  it("refuses to replace what somebody else commits at the same moment", async () => {
    const publisher = await open(hub);
    await send(publisher, "a.safetensors", A);
    const other = await open(hub);
    let raced = false;
    const racing = await open(hub, {}, {});
    await send(racing, "a.safetensors", A);
    // Between reading the branch's head and the commit.
    const repo = hub.repo("model", "org/new")!;
    const list = hub.requests.length;
    const watch = (async () => {
      while (!hub.requests.slice(list).some(({ url }) => url.includes("/preupload/"))) await new Promise((resolve) => setImmediate(resolve));
      repo.commit("refs/heads/main", repo.at("main"), new Map([["other.txt", repo.stored("other.txt", text("other"))]]), "theirs");
      raced = true;
    })();
    await expect(racing.commit(SMALL)).rejects.toThrow(`${hub.url}/org/new: another commit was made to main at the same moment; run the same command again, nothing is sent twice`);
    await watch;
    expect(raced).toBe(true);
    await other.commit(SMALL);
    expect(Object.keys(contents(hub))).toContain("other.txt");
  });
});

describe("where it goes", () => {
  it("opens a pull request and leaves the branch as it is", async () => {
    const publisher = await open(hub, { createPr: true });
    await send(publisher, "a.safetensors", A);
    expect(await publisher.commit(SMALL)).toEqual({ url: `${hub.url}/org/new/discussions/1`, changed: true });
    expect(contents(hub)).toEqual({});
    expect(Object.keys(contents(hub, "refs/pr/1"))).toHaveLength(5);
  });

  it("makes the branch, and takes one that is there", async () => {
    for (let round = 0; round < 2; round += 1) {
      const publisher = await open(hub, { revision: "gptq/4bit" });
      await publisher.commit(SMALL).then(({ url }) => { expect(url).toBe(`${hub.url}/org/new/tree/gptq%2F4bit`); });
    }
    expect(contents(hub)).toEqual({});
    expect(Object.keys(contents(hub, "gptq/4bit"))).toHaveLength(4);
  });

  it("makes a private repo, and refuses to take a public one for it", async () => {
    await open(hub, { private: true });
    expect(hub.repo("model", "org/new")!.isPrivate).toBe(true);
    await open(hub, { private: true });
    await open(hub, { repo: "org/public" });
    expect(hub.repo("model", "org/public")!.isPrivate).toBe(false);
    await expect(open(hub, { repo: "org/public", private: true })).rejects.toThrow(
      `${hub.url}/org/public: is there already, and public; make it private at ${hub.url}/org/public/settings, or leave out --private`,
    );
  });
});

describe("what it refuses before any work is done", () => {
  it.each([
    ["no token", "", "org/new", "publishing needs a token that may write; make one at HUB/settings/tokens, then log in with `hf auth login` or set HF_TOKEN"],
    ["a token that nobody has", "hf_nobody", "org/new", "the Hub does not accept the token; make a new one at HUB/settings/tokens, and log in with `hf auth login` or set HF_TOKEN"],
    ["a token that only reads", "hf_reads", "org/new", "the token may only read; make one that may write at HUB/settings/tokens, then log in with `hf auth login` or set HF_TOKEN"],
    ["another's namespace", "hf_other", "org/new", 'the token may not do this ("You don\'t have the rights to create a model under the namespace \\"org\\""); give it the right at HUB/settings/tokens'],
    ["another's repo", "hf_other", "org/theirs", 'the token may not do this ("Forbidden: pass a token with the right to write to this repo"); give it the right at HUB/settings/tokens'],
  ])("%s", async (_, token, repo, message) => {
    await open(hub, { repo: "org/theirs" });
    await expect(open(hub, { repo }, {}, token)).rejects.toThrow(new InputError(`${hub.url}/${repo}: ${message.replace("HUB", hub.url)}`));
    expect(hub.repo("model", "org/new")).toBeUndefined();
  });

  it.each([
    ["new", '"new" is not the name of a model repo; give org/name, the organization or user first'],
    ["./org/new", '"./org/new" is not the name of a model repo; give org/name, the organization or user first'],
    ["org/new@next", '"org/new@next" names a revision; give org/new, and the branch with --revision'],
  ])("the name %s", async (repo, message) => {
    await expect(open(hub, { repo })).rejects.toThrow(new InputError(message));
  });
});

it("takes a shard without its content only where the Hub has it", async () => {
  const publisher = await open(hub);
  const shard = shardOf("a.safetensors", A);
  await expect(publisher.shard(shard, undefined)).rejects.toThrow(`${hub.url}/org/new: the Hub has lost a.safetensors, which was sent there and deleted here; use --overwrite to start anew`);
  await send(publisher, "a.safetensors", A);
  const again = await open(hub);
  await again.shard(shard, undefined);
  await again.commit(new Map());
  expect(contents(hub)).toEqual(base64({ "a.safetensors": A }));
});

it("refuses bytes that are not what their hash says", async () => {
  const publisher = await open(hub);
  await expect(publisher.shard(shardOf("b.safetensors", B), new Blob([weights(B.length, 9)]))).rejects.toThrow("b.safetensors cannot be sent: its parts cannot be joined (status 400");
  await publisher.commit(SMALL);
  expect(Object.keys(contents(hub))).not.toContain("b.safetensors");
});

it("waits for another commit that is under way", async () => {
  const told: string[] = [];
  hub.faults.push({ at: /^POST .*\/repos\/create/, kind: "locked" }, { at: /^POST .*\/commit\//, kind: "locked" });
  const publisher = await open(hub, {}, { onRetry: ({ request, why }) => told.push(`${request.replace(hub.url, "")}: ${why}`) });
  await send(publisher, "a.safetensors", A);
  await publisher.commit(SMALL);
  expect(Object.keys(contents(hub))).toContain("a.safetensors");
  expect(told).toEqual(["/api/repos/create", "/api/models/org/new/commit/main"].map((path) => `POST ${path}: another operation is in progress there`));
});

it("never tells the token", async () => {
  const told: string[] = [];
  hub.faults.push({ at: /^POST .*objects\/batch/, kind: "500" }, { at: /^PUT /, kind: "cut" });
  const publisher = await open(hub, {}, { onRetry: (retry) => told.push(JSON.stringify(retry)) });
  await send(publisher, "a.safetensors", A);
  expect(told).toHaveLength(2);
  expect(told.join("\n")).not.toContain(TOKEN);
  expect(told.join("\n")).not.toContain("X-Amz-Signature");
});
