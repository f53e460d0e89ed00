import { InputError } from "../errors.js";
import type { LargeFile, Publisher } from "../publish/publisher.js";
import type { QuantizeEvent } from "./events.js";
import type { JournalEntry } from "./journal.js";
import type { Sink } from "./sink.js";

/** Sends shards to where they are published, one after the other, while later layers compute. */
export class Uploads {
  private sending: Promise<void> = Promise.resolve();
  /** Those that could not be sent: the line may be back when the rest is done. */
  private readonly left: LargeFile[] = [];
  private closed = false;

  /** @param keep whether shards stay in the sink once the Hub has confirmed them */
  constructor(
    private readonly sink: Sink,
    private readonly publisher: Publisher,
    private readonly keep: boolean,
    private readonly emit: (event: QuantizeEvent) => void,
  ) {}

  /**
   * Begins to send a shard. Shards that are kept may wait for a line that is down, and the run goes on; where they are not kept, it waits for
   * the one before, and throws what that failed with: the disk is not to fill because nothing can be sent.
   */
  async add(shard: LargeFile): Promise<void> {
    if (!this.keep) await this.sending;
    this.sending = this.sending.then(() => this.send(shard)).catch((error: unknown) => {
      if (!this.keep || this.closed || !(error instanceof InputError)) throw error;
      this.left.push(shard);
      this.emit({ type: "warning", message: `${shard.name} could not be sent; the run goes on, and it is tried once more at the end: ${error.message}` });
    });
    // An error is thrown by whoever awaits it next; until then it is not unheard.
    this.sending.catch(() => undefined);
  }

  /** Returns when the Hub has confirmed every shard; throws what one of them failed with. */
  async settled(): Promise<void> {
    await this.sending;
    for (const shard of this.left.splice(0)) await this.send(shard);
  }

  /** Ends all sending, and returns when nothing is under way any more. */
  async stop(): Promise<void> {
    this.closed = true;
    this.publisher.close();
    await this.sending.catch(() => undefined);
  }

  private async send(shard: LargeFile): Promise<void> {
    const { sink, publisher } = this;
    await publisher.shard(shard, await sink.content(shard.name));
    await sink.log(JSON.stringify({ pushed: shard.name, to: publisher.repo } satisfies JournalEntry));
    this.emit({ type: "uploaded", file: shard.name, size: shard.size });
    if (!this.keep) await sink.deleteShard(shard.name);
  }
}
