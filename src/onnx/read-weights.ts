import { InputError } from "../errors.js";
import { quote } from "../safetensors/json.js";
import { fieldsOf, textOf, type Field } from "./fields.js";
import { ELEMENT, EXTERNAL, type OnnxElement, type OnnxWeight } from "./model.js";

/** What is read of a model: who made it, and its weights that lie in other files. */
export interface OnnxWeights {
  readonly producer: string;
  readonly weights: ReadonlyMap<string, OnnxWeight>;
}

const NAME_OF = new Map(Object.entries(ELEMENT).map(([name, number]) => [BigInt(number), name as OnnxElement]));
const BYTES: Readonly<Record<OnnxElement, number>> = { float32: 4, uint8: 1, int32: 4, int64: 8, float16: 2, float64: 8, bfloat16: 2 };

/**
 * Reads where an ONNX model's weights lie. Field numbers are those of onnx.proto.
 * @param where the file, for messages
 * @throws InputError naming the file, the weight and what is wrong with it
 */
export function readWeights(model: Uint8Array, where: string): OnnxWeights {
  const weights = new Map<string, OnnxWeight>();
  let producer = "";
  for (const { field, bytes } of fieldsOf(model, where)) {
    if (field === 2 && bytes) producer = textOf(bytes, where);
    if (field !== 7 || !bytes) continue;
    for (const inner of fieldsOf(bytes, where)) {
      if (inner.field !== 5 || !inner.bytes) continue;
      const weight = readWeight([...fieldsOf(inner.bytes, where)], where);
      if (weight === undefined) continue;
      if (weights.has(weight.name)) throw new InputError(`${where}: two weights are named ${quote(weight.name)}`);
      weights.set(weight.name, weight);
    }
  }
  return { producer, weights };
}

/** Undefined for a constant that lies in the model itself. */
function readWeight(fields: readonly Field[], where: string): OnnxWeight | undefined {
  if (fields.findLast(({ field }) => field === 14)?.value !== BigInt(EXTERNAL)) return undefined;
  const name = textOf(fields.findLast(({ field }) => field === 8)?.bytes ?? new Uint8Array(), where);
  const fail = (what: string): never => {
    throw new InputError(`${where}: weight ${quote(name)} ${what}`);
  };
  const number = fields.findLast(({ field }) => field === 2)?.value ?? 0n;
  const type = NAME_OF.get(number) ?? fail(`has the element type ${number}, which Shardsmith does not write`);
  const shape = fields.filter(({ field }) => field === 1).map(({ value }) => Number(value ?? fail("has a packed shape, which Shardsmith does not write")));
  const place = new Map(fields.flatMap(({ field, bytes }) => (field === 13 && bytes ? [entry(bytes, where)] : [])));
  const file = place.get("location") ?? fail("has no location");
  if (!/^[\w.-]+$/.test(file) || file.startsWith(".")) fail(`lies in ${quote(file)}, which is no file beside the model`);
  const start = whole(place.get("offset") ?? "0") ?? fail(`begins at ${quote(place.get("offset"))}`);
  const length = whole(place.get("length") ?? "") ?? fail(`is ${quote(place.get("length"))} bytes long`);
  const needed = shape.reduce((product, size) => product * size, BYTES[type]);
  if (needed !== length) fail(`is ${type} of shape ${quote(shape)}, which takes ${needed} bytes, but ${length} are stored`);
  return { name, type, shape, file, start, end: start + length };
}

/** A StringStringEntryProto. */
function entry(bytes: Uint8Array, where: string): [string, string] {
  const parts = [...fieldsOf(bytes, where)];
  const part = (wanted: number): string => textOf(parts.findLast(({ field }) => field === wanted)?.bytes ?? new Uint8Array(), where);
  return [part(1), part(2)];
}

function whole(digits: string): number | undefined {
  const number = Number(digits);
  return /^\d+$/.test(digits) && Number.isSafeInteger(number) ? number : undefined;
}
