/**
 * The little of protocol buffers' wire format that writing an ONNX model needs. Every function returns the bytes of one field;
 * a message is its fields, one after the other. Graphs are some hundred kilobytes at most, so plain arrays of bytes do.
 */
export type Bytes = readonly number[];

function varint(value: number | bigint): number[] {
  let rest = BigInt.asUintN(64, BigInt(value));
  const digits: number[] = [];
  while (rest > 127n) {
    digits.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  digits.push(Number(rest));
  return digits;
}

const key = (field: number, wireType: number): number[] => varint(field * 8 + wireType);

/** A 64-bit integer. */
export const int = (field: number, value: number): Bytes => [...key(field, 0), ...varint(value)];

/** A 32-bit float. */
export const float = (field: number, value: number): Bytes => [...key(field, 5), ...new Uint8Array(new Float32Array([value]).buffer)];

/** A message inside a message. */
export function message(field: number, ...fields: readonly Bytes[]): Bytes {
  const body = fields.flat();
  return [...key(field, 2), ...varint(body.length), ...body];
}

/** A string. */
export const text = (field: number, value: string): Bytes => message(field, [...new TextEncoder().encode(value)]);

/** The message that no other holds. */
export const bytes = (...fields: readonly Bytes[]): Uint8Array => Uint8Array.from(fields.flat());
