import type { Stored } from "../formats/format.js";
import { joinBytes } from "../safetensors/join-bytes.js";
import type { ShardWriter } from "./shard-writer.js";

/** Writes tensors that are not quantized as the format stores them, whatever the pieces in which their bytes come. */
export class StoredWriter {
  /** Of the tensors that are under way: bytes written, and what is left of the source's and fills no unit yet. */
  private readonly begun = new Map<string, { readonly written: number; readonly rest: Uint8Array<ArrayBuffer> }>();

  /** @param stored by name; a tensor that is not among them is left out */
  constructor(
    private readonly writer: ShardWriter,
    private readonly stored: ReadonlyMap<string, Stored>,
  ) {}

  /** Takes the source's next bytes of a tensor, from its first to its last; one without any is written by an empty piece. */
  async take(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const stored = this.stored.get(name);
    if (stored === undefined) return;
    const { written, rest } = this.begun.get(name) ?? { written: 0, rest: new Uint8Array() };
    const all = rest.length === 0 ? bytes : joinBytes(rest, bytes);
    const whole = all.length - (all.length % stored.unit);
    const converted = whole === 0 ? new Uint8Array() : stored.convert(all.subarray(0, whole));
    await this.writer.writePart(name, written, converted);
    // Copied, so that a piece is not held for the sake of its end.
    this.begun.set(name, { written: written + converted.length, rest: all.slice(whole) });
  }
}
