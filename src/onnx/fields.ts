import { InputError } from "../errors.js";

/** A field of a protocol buffers message as it lies in the bytes: a number's value, or the bytes of a string or an inner message. */
export type Field =
  | { readonly field: number; readonly value: bigint; readonly bytes?: undefined }
  | { readonly field: number; readonly value?: undefined; readonly bytes: Uint8Array };

const VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5;

/**
 * The fields of a message, in order. Fixed-size numbers, of which ONNX has none but floats, are passed over.
 * @param where the file, for messages
 * @throws InputError where a field reaches beyond the message, or is of no kind that there is
 */
export function* fieldsOf(message: Uint8Array, where: string): Generator<Field, void, undefined> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at === message.length) throw new InputError(`${where} is no ONNX model: it ends in the middle of a number`);
      const byte = message[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw new InputError(`${where} is no ONNX model: it has a number of more than 64 bits`);
  };
  const take = (length: bigint): Uint8Array => {
    if (length > BigInt(message.length - at)) throw new InputError(`${where} is no ONNX model, or cut short: a field of ${length} bytes reaches beyond its end`);
    return message.subarray(at, (at += Number(length)));
  };
  while (at < message.length) {
    const key = varint();
    const field = Number(key >> 3n);
    const kind = Number(key & 7n);
    if (kind === VARINT) yield { field, value: varint() };
    else if (kind === LENGTH) yield { field, bytes: take(varint()) };
    else if (kind === FIXED64) take(8n);
    else if (kind === FIXED32) take(4n);
    else throw new InputError(`${where} is no ONNX model: it has a field of the unknown kind ${kind}`);
  }
}

/** Bytes as a string. Throws `InputError` where they are not UTF-8. */
export function textOf(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new InputError(`${where}: a name in it is not valid UTF-8`);
  }
}
