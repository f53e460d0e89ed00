/** Codes as words of four. They come from memory of their own, and rows are whole blocks, so that nothing is left over. */
export function codeWords(codes: Uint8Array<ArrayBuffer>): Uint32Array {
  const aligned = codes.byteOffset % 4 === 0 ? codes : codes.slice();
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}

/** The halfwords of packed bytes; a copy where they are not aligned. */
export function halvesIn(bytes: Uint8Array<ArrayBuffer>): Uint16Array {
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.length / 2);
}
