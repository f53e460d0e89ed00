import { expect, it } from "vitest";
import { WRITE_FAULTS, type Fault } from "../../scripts/loopback-hub/server.js";
import { InputError } from "#src/errors.js";
import { generator } from "../quantize/random.js";
import { base64, contents, open, puts, send, startHub, text, TOKEN, weights } from "./hub.js";

const SCHEDULES = 200;
const SHARDS = { "model-00001-of-00002.safetensors": weights(3500, 3), "model-00002-of-00002.safetensors": weights(700, 5) };
const FILES = new Map([["config.json", text("{}")], ["tokenizer.bin", weights(400, 7)]]);
const EXPECTED = base64({ ...SHARDS, ...Object.fromEntries(FILES) });

it(`publishes the same under ${String(SCHEDULES)} schedules of faults, once, or says what is wrong and goes on when asked again`, { timeout: 120_000 }, async () => {
  const seen = new Set<Fault>();
  let failed = 0;
  for (let seed = 1; seed <= SCHEDULES; seed += 1) {
    const random = generator(seed);
    const share = random() ** 2 * 0.8;
    let disturbed = true;
    const fault = (): Fault | undefined => (disturbed && random() < share ? WRITE_FAULTS[Math.floor(random() * WRITE_FAULTS.length)] : undefined);
    const hub = await startHub({ fault });
    const publish = async (): Promise<void> => {
      const publisher = await open(hub);
      for (const [name, bytes] of Object.entries(SHARDS)) await send(publisher, name, bytes);
      await publisher.commit(FILES);
    };
    try {
      await publish();
    } catch (error) {
      failed += 1;
      expect(error).toBeInstanceOf(InputError);
      expect((error as Error).message).not.toMatch(new RegExp(`${TOKEN}|Signature`));
      // No half of it is ever to be seen.
      expect([{}, EXPECTED]).toContainEqual(contents(hub));
      disturbed = false;
      await publish();
    }
    expect(contents(hub)).toEqual(EXPECTED);
    const repo = hub.repo("model", "org/new")!;
    expect(repo.history(repo.at("main"))).toHaveLength(2);
    for (const { fault: kind } of hub.requests) if (kind !== undefined) seen.add(kind);
    // An address takes its bytes once; only an answer that was lost makes it take them again.
    const taken = puts(hub).filter(({ status }) => status === 200).map(({ url }) => url);
    expect(new Set(taken).size).toBe(taken.length);
    expect(puts(hub).filter(({ authorization }) => authorization !== undefined)).toEqual([]);
    await hub.close();
  }
  expect([...seen].sort()).toEqual([...WRITE_FAULTS].sort());
  expect(failed).toBeGreaterThan(10);
  expect(failed).toBeLessThan(SCHEDULES / 2);
});
