import type { Decoder } from "../model/decoder.js";
import type { ReadRows } from "../model/weights.js";
import type { Checkpoint } from "../source/checkpoint.js";
import { chunksOf, type FileRange } from "../source/ranges.js";
import { PassingRows } from "./passing-rows.js";
import { COPY_BYTES } from "./pieces.js";
import { rangesOf, type Reading } from "./reading.js";
import type { Stopwatch } from "./stopwatch.js";
import type { StoredWriter } from "./stored-writer.js";

/** The tensors that belong to no layer and stay as they are; of the embedding, the rows that calibration needs are caught as it passes. */
export class Outside {
  /** The steps in which they are read. */
  readonly pieces: readonly FileRange[];
  private rows: PassingRows | undefined;
  private passed = false;

  /** @param tokens those that occur; none if there is no calibration */
  constructor(private readonly checkpoint: Checkpoint, private readonly names: readonly string[], private readonly decoder: Decoder | undefined, tokens: readonly number[]) {
    this.pieces = chunksOf(rangesOf(checkpoint, names), COPY_BYTES);
    if (decoder !== undefined && tokens.length > 0) this.rows = new PassingRows(checkpoint.tensors.get(decoder.embedding.tensor)!, tokens);
  }

  /** @param reading one of which `pieces` are the first steps */
  async copy({ checkpoint: { source, tensors }, enter }: Reading, writer: StoredWriter, watch: Stopwatch, signal: AbortSignal | undefined): Promise<void> {
    for (const name of this.names) {
      const { start, end } = tensors.get(name)!;
      if (start === end) await writer.take(name, new Uint8Array());
    }
    for (const [step, { file, start, end }] of this.pieces.entries()) {
      signal?.throwIfAborted();
      enter(step);
      const bytes = await watch.time("read", () => source.read(file, start, end));
      for (const name of this.names) {
        const tensor = tensors.get(name)!;
        const from = Math.max(start, tensor.start);
        const to = Math.min(end, tensor.end);
        if (tensor.file !== file || from >= to) continue;
        const part = bytes.subarray(from - start, to - start);
        if (name === this.decoder?.embedding.tensor) this.rows?.take(from - tensor.start, part);
        await watch.time("write", () => writer.take(name, part));
      }
    }
    this.passed = this.decoder !== undefined && this.names.includes(this.decoder.embedding.tensor);
  }

  /** The embedding of the tokens that occur. Where an earlier run copied the table, or it is to be quantized, it passes once more. Throws `InputError` for one without floats. */
  async embedding(): Promise<ReadRows> {
    const { source, tensors } = this.checkpoint;
    const name = this.decoder!.embedding.tensor;
    await this.checkpoint.readRows(name, []);
    const table = tensors.get(name)!;
    const rows = this.rows!;
    if (!this.passed) for (const { file, start, end } of chunksOf([table], COPY_BYTES)) rows.take(start - table.start, await source.read(file, start, end));
    // Nobody needs them twice.
    this.rows = undefined;
    return rows.read;
  }
}
