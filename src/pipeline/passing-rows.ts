import type { ReadRows } from "../model/weights.js";
import { byteSize } from "../safetensors/dtypes.js";
import { toFloat32, type FloatDtype } from "../safetensors/floats.js";
import type { TensorSpec } from "../safetensors/tensor.js";

/** Some rows of a table, caught while it passes by piece by piece: the embedding is read once, to be copied and for the tokens that occur. */
export class PassingRows {
  private readonly rows: readonly number[];
  private readonly places: ReadonlyMap<number, number>;
  private readonly rowBytes: number;
  private readonly bytes: Uint8Array<ArrayBuffer>;

  /** @param table of floats, [rows, width] */
  constructor(private readonly table: TensorSpec, rows: Iterable<number>) {
    this.rows = [...new Set(rows)].sort((a, b) => a - b);
    this.places = new Map(this.rows.map((row, place) => [row, place]));
    this.rowBytes = byteSize(table.dtype, [table.shape[1]]);
    this.bytes = new Uint8Array(this.rows.length * this.rowBytes);
  }

  /** Catches what it wants of the table's bytes from `offset` on. */
  take(offset: number, piece: Uint8Array): void {
    const { rowBytes } = this;
    const end = offset + piece.length;
    for (const [row, place] of this.places) {
      const from = Math.max(offset, row * rowBytes);
      const to = Math.min(end, (row + 1) * rowBytes);
      if (from < to) this.bytes.set(piece.subarray(from - offset, to - offset), place * rowBytes + from - row * rowBytes);
    }
  }

  /** Rows that have passed; of no other table, and no others. */
  readonly read: ReadRows = (_, rows) => {
    const found = new Uint8Array(rows.length * this.rowBytes);
    for (let i = 0; i < rows.length; i += 1) {
      const at = this.places.get(rows[i])! * this.rowBytes;
      found.set(this.bytes.subarray(at, at + this.rowBytes), i * this.rowBytes);
    }
    return Promise.resolve(toFloat32(found, this.table.dtype as FloatDtype));
  };
}
