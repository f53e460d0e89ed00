import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { alongCols, alongColsTransposed, alongRows, alongRowsTransposed, packBits, unpackBits, wordsFor } from "#src/formats/bits.js";
import { BITS, type Bits } from "#src/quantize/scheme.js";

const layouts = [
  { of: alongRows, transposed: false },
  { of: alongRowsTransposed, transposed: true },
  { of: alongCols, transposed: true },
  { of: alongColsTransposed, transposed: false },
];

/** Bit by bit: bit k of code i of a line is bit (i·bits + k) of its words. */
function packSlowly(codes: Uint8Array, rows: number, cols: number, bits: Bits, downwards: boolean, transposed: boolean): Uint32Array {
  const [lines, length] = downwards ? [cols, rows] : [rows, cols];
  const words = wordsFor(length, bits);
  const out = new Uint32Array(lines * words);
  for (let l = 0; l < lines; l++) {
    for (let i = 0; i < length; i++) {
      const code = downwards ? codes[i * cols + l] : codes[l * cols + i];
      for (let k = 0; k < bits; k++) {
        const at = i * bits + k;
        const word = at >> 5;
        const index = transposed ? word * lines + l : l * words + word;
        out[index] = out[index] | (((code >> k) & 1) << (at & 31));
      }
    }
  }
  return out;
}

const matrices = fc.record({ bits: fc.constantFrom(...BITS), rows: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(32, 64)), cols: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.constantFrom(32, 64, 96)), seed: fc.integer() });

function randomCodes(count: number, bits: Bits, seed: number): Uint8Array<ArrayBuffer> {
  let state = seed | 0;
  return Uint8Array.from({ length: count }, () => {
    state = (Math.imul(state, 1103515245) + 12345) | 0;
    return (state >>> 16) & ((1 << bits) - 1);
  });
}

// Vitest compares typed arrays element by element, slowly.
function sameBytes(a: Uint8Array | Uint32Array, b: Uint8Array | Uint32Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));
}

describe("packBits", () => {
  it.each(layouts.map((layout) => ({ ...layout, name: layout.of.name })))("$name packs as bit by bit, and back", ({ of, transposed }) => {
    const downwards = of === alongCols || of === alongColsTransposed;
    fc.assert(
      fc.property(matrices, ({ bits, rows, cols, seed }) => {
        const codes = randomCodes(rows * cols, bits, seed);
        const layout = of(rows, cols, bits);
        const packed = packBits(codes, layout);
        expect(sameBytes(packed, packSlowly(codes, rows, cols, bits, downwards, transposed))).toBe(true);
        expect(sameBytes(unpackBits(packed, layout), codes)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it("packs codes that lie at no word's boundary", () => {
    const codes = randomCodes(129, 4, 1).subarray(1);
    expect(sameBytes(packBits(codes, alongRows(2, 64, 4)), packSlowly(codes, 2, 64, 4, false, false))).toBe(true);
  });

  it.each([2, 3, 4] as const)("transposes lines of more words than it packs at a time: %i bits", (bits) => {
    const codes = randomCodes(4 * 3232, bits, 1);
    expect(sameBytes(packBits(codes, alongRowsTransposed(4, 3232, bits)), packSlowly(codes, 4, 3232, bits, false, true))).toBe(true);
    expect(() => packBits(codes.fill(1 << bits, -1), alongRowsTransposed(4, 3232, bits))).toThrow(new Error(`A code does not fit ${bits} bits`));
  });

  it.each([2, 3, 4, 6] as const)("refuses a code that does not fit %i bits", (bits) => {
    const codes = new Uint8Array(40);
    codes[37] = 1 << bits;
    expect(() => packBits(codes, alongRows(2, 20, bits))).toThrow(new Error(`A code does not fit ${bits} bits`));
  });
});
