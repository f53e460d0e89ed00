import type { Shard } from "../safetensors/layout.js";
import type { Tensor } from "../safetensors/tensor.js";
import type { Sink } from "./sink.js";

/** Puts tensors where the layout says they lie, and gives a shard its name once all of it is there. */
export class ShardWriter {
  private readonly homes = new Map<string, { shard: Shard; start: number; end: number }>();
  private readonly missing = new Map<Shard, Set<string>>();
  private readonly begun = new Set<Shard>();
  private readonly unsynced = new Set<string>();

  constructor(
    private readonly sink: Sink,
    shards: readonly Shard[],
  ) {
    for (const shard of shards) {
      this.missing.set(shard, new Set(shard.tensors.map(({ name }) => name)));
      for (const { name, start, end } of shard.tensors) this.homes.set(name, { shard, start, end });
    }
  }

  /** Says that a shard was finished by an earlier run. */
  finished(name: string): void {
    for (const shard of this.missing.keys()) if (shard.file === name) this.missing.delete(shard);
  }

  /** Says that these tensors were written by an earlier run. */
  written(names: Iterable<string>): void {
    for (const name of names) this.missing.get(this.homes.get(name)!.shard)?.delete(name);
  }

  async write({ name, bytes }: Tensor): Promise<void> {
    await this.writePart(name, 0, bytes);
  }

  /** Writes bytes of a tensor from `at` on; the tensor counts as written when its last byte is. */
  async writePart(name: string, at: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { shard, start, end } = this.homes.get(name)!;
    const reached = start + at + bytes.byteLength;
    if (reached > end) throw new Error(`${name} takes ${String(end - start)} bytes, not ${String(at + bytes.byteLength)}`);
    if (!this.begun.has(shard)) {
      await this.sink.writeShard(shard.file, 0, shard.header);
      this.begun.add(shard);
    }
    await this.sink.writeShard(shard.file, start + at, bytes);
    this.unsynced.add(shard.file);
    if (reached === end) this.missing.get(shard)?.delete(name);
  }

  /** Returns when all that was written would survive a power cut. */
  async sync(): Promise<void> {
    const shards = [...this.unsynced];
    this.unsynced.clear();
    await this.sink.syncShards(shards);
  }

  /** Finishes every shard that is whole by now, and says which. Call it after `sync`, and when the journal knows. */
  async finish(): Promise<{ readonly file: string; readonly size: number; readonly sha256: string }[]> {
    const whole = [...this.missing].filter(([, names]) => names.size === 0).map(([shard]) => shard);
    const done = [];
    for (const shard of whole) {
      this.missing.delete(shard);
      this.unsynced.delete(shard.file);
      // A crash between the rename and the journal's line leaves a shard that has its name already.
      const sha256 = (await this.sink.hash(shard.file, shard.size)) ?? (await this.sink.finishShard(shard.file, shard.size));
      done.push({ file: shard.file, size: shard.size, sha256 });
    }
    return done;
  }
}
