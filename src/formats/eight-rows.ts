/** Quads of columns that are packed for all rows before the next: as many words lie apart as a cache keeps until their neighbours have come. */
const QUADS = 32;

/** Which of eight neighbouring rows lies in which four bits of a word, the lowest first: AWQ's kernels take codes out in pairs. */
const ROW_OF_NIBBLE = [0, 2, 4, 6, 1, 3, 5, 7] as const;

/**
 * Packs codes of 4 bits as AWQ does, eight rows to a word and interleaved: codes [rows, cols] → words [cols, rows / 8].
 *
 * Throws `Error` where a code does not fit 4 bits: it would corrupt its neighbours.
 */
export function packEightRows(codes: Uint8Array<ArrayBuffer>, rows: number, cols: number): Uint32Array<ArrayBuffer> {
  const across = Math.ceil(cols / 4);
  const quads = quadsOf(codes, rows, cols);
  const width = rows / 8;
  const words = new Uint32Array(4 * across * width);
  let seen = 0;
  for (let first = 0; first < across; first += QUADS) {
    const end = Math.min(first + QUADS, across);
    for (let word = 0; word < width; word++) {
      // Rows by the nibble that they go to, as ROW_OF_NIBBLE has them.
      const r0 = 8 * word * across;
      const r1 = r0 + 2 * across;
      const r2 = r0 + 4 * across;
      const r3 = r0 + 6 * across;
      const r4 = r0 + across;
      const r5 = r1 + across;
      const r6 = r2 + across;
      const r7 = r3 + across;
      for (let i = first, at = 4 * first * width + word; i < end; i++, at += 4 * width) {
        const q0 = quads[r0 + i];
        const q1 = quads[r1 + i];
        const q2 = quads[r2 + i];
        const q3 = quads[r3 + i];
        const q4 = quads[r4 + i];
        const q5 = quads[r5 + i];
        const q6 = quads[r6 + i];
        const q7 = quads[r7 + i];
        seen |= q0 | q1 | q2 | q3 | q4 | q5 | q6 | q7;
        // Four columns at once: byte c of each of these is a byte of column c's word.
        const b0 = q0 | (q1 << 4);
        const b1 = q2 | (q3 << 4);
        const b2 = q4 | (q5 << 4);
        const b3 = q6 | (q7 << 4);
        const even01 = (b0 & 0xff00ff) | ((b1 & 0xff00ff) << 8);
        const even23 = (b2 & 0xff00ff) | ((b3 & 0xff00ff) << 8);
        const odd01 = ((b0 >>> 8) & 0xff00ff) | (b1 & 0xff00ff00);
        const odd23 = ((b2 >>> 8) & 0xff00ff) | (b3 & 0xff00ff00);
        words[at] = (even01 & 0xffff) | (even23 << 16);
        words[at + width] = (odd01 & 0xffff) | (odd23 << 16);
        words[at + 2 * width] = (even01 >>> 16) | (even23 & 0xffff0000);
        words[at + 3 * width] = (odd01 >>> 16) | (odd23 & 0xffff0000);
      }
    }
  }
  if ((seen & 0xf0f0f0f0) !== 0) throw new Error("A code does not fit 4 bits");
  return cols % 4 === 0 ? words : words.slice(0, cols * width);
}

/** The codes as quads [rows, ⌈cols / 4⌉]; copied, with zeros after each row, where rows are no whole quads. */
function quadsOf(codes: Uint8Array<ArrayBuffer>, rows: number, cols: number): Uint32Array {
  if (cols % 4 === 0 && codes.byteOffset % 4 === 0) return new Uint32Array(codes.buffer, codes.byteOffset, codes.length / 4);
  const stride = 4 * Math.ceil(cols / 4);
  const padded = new Uint8Array(rows * stride);
  for (let row = 0; row < rows; row++) padded.set(codes.subarray(row * cols, (row + 1) * cols), row * stride);
  return new Uint32Array(padded.buffer);
}

/** Words that are unpacked for all rows before the next: they make up whole cache lines then. */
const TILE = 64;

/** The inverse of `packEightRows`: words [cols, rows / 8] → codes [rows, cols]. */
export function unpackEightRows(words: Uint32Array, rows: number, cols: number): Uint8Array<ArrayBuffer> {
  const width = rows / 8;
  const codes = new Uint8Array(rows * cols);
  for (let first = 0; first < cols; first += TILE) {
    const end = Math.min(first + TILE, cols);
    for (let word = 0; word < width; word++) {
      ROW_OF_NIBBLE.forEach((row, nibble) => {
        const start = (8 * word + row) * cols;
        for (let i = first; i < end; i++) codes[start + i] = (words[i * width + word] >>> (4 * nibble)) & 15;
      });
    }
  }
  return codes;
}
