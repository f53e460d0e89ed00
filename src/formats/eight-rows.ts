/** Words that are filled for all rows before the next: they make up whole cache lines then. */
const TILE = 64;

/** Which of eight neighbouring rows lies in which four bits of a word, the lowest first: AWQ's kernels take codes out in pairs. */
const ROW_OF_NIBBLE = [0, 2, 4, 6, 1, 3, 5, 7] as const;

/**
 * Packs codes of 4 bits as AWQ does, eight rows to a word and interleaved: codes [rows, cols] → words [cols, rows / 8].
 *
 * Throws `Error` where a code does not fit 4 bits: it would corrupt its neighbours.
 */
export function packEightRows(codes: Uint8Array, rows: number, cols: number): Uint32Array<ArrayBuffer> {
  const width = rows / 8;
  const words = new Uint32Array(cols * width);
  let seen = 0;
  for (let first = 0; first < cols; first += TILE) {
    const end = Math.min(first + TILE, cols);
    for (let word = 0; word < width; word++) {
      const [r0, r1, r2, r3, r4, r5, r6, r7] = ROW_OF_NIBBLE.map((row) => (8 * word + row) * cols);
      for (let i = first; i < end; i++) {
        const q0 = codes[r0 + i];
        const q1 = codes[r1 + i];
        const q2 = codes[r2 + i];
        const q3 = codes[r3 + i];
        const q4 = codes[r4 + i];
        const q5 = codes[r5 + i];
        const q6 = codes[r6 + i];
        const q7 = codes[r7 + i];
        seen |= q0 | q1 | q2 | q3 | q4 | q5 | q6 | q7;
        words[i * width + word] = q0 | (q1 << 4) | (q2 << 8) | (q3 << 12) | (q4 << 16) | (q5 << 20) | (q6 << 24) | (q7 << 28);
      }
    }
  }
  if (seen > 15) throw new Error("A code does not fit 4 bits");
  return words;
}

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
