import { bytes, float, int, message, text, type Bytes } from "./protobuf.js";

/** Element types by their number in ONNX's TensorProto.DataType. */
export const ELEMENT = { float32: 1, uint8: 2, int32: 6, int64: 7, float16: 10, float64: 11, bfloat16: 16 } as const;

export type OnnxElement = keyof typeof ELEMENT;

/** An ONNX model as data: what `encodeModel` turns into a file's bytes. */
export interface OnnxModel {
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly nodes: readonly OnnxNode[];
  /** Constant vectors of int64, by name (shapes). */
  readonly constants?: ReadonlyMap<string, readonly number[]>;
  /** Constant scalars of float32, by name. */
  readonly scalars?: ReadonlyMap<string, number>;
  /** Weights that lie in other files. */
  readonly weights?: readonly OnnxWeight[];
  /** Who made it, as "shardsmith:VERSION". */
  readonly producer?: string;
}

interface OnnxValue {
  readonly name: string;
  readonly type: OnnxElement;
  /** A string is the name of a dimension that is known only when the model runs. */
  readonly shape: readonly (number | string)[];
}

/** A weight's bytes, little-endian: [start, end) of `file`, which lies in the folder of the model. */
export interface OnnxWeight {
  readonly name: string;
  readonly type: OnnxElement;
  readonly shape: readonly number[];
  readonly file: string;
  readonly start: number;
  readonly end: number;
}

export interface OnnxNode {
  readonly op: string;
  /** `com.microsoft` marks ONNX Runtime's own operators. */
  readonly domain?: "com.microsoft";
  /** An empty name leaves an optional input out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly ints?: Readonly<Record<string, number>>;
  readonly lists?: Readonly<Record<string, readonly number[]>>;
  readonly floats?: Readonly<Record<string, number>>;
  readonly strings?: Readonly<Record<string, string>>;
}

// Field numbers are those of onnx.proto. Opset 21 is the newest that needs nothing newer than IR version 10.
const IR_VERSION = 10;
const OPSET = 21;

/** The bytes of an .onnx file. */
export function encodeModel({ inputs, outputs, nodes, constants = new Map(), scalars = new Map(), weights = [], producer }: OnnxModel): Uint8Array {
  return bytes(
    int(1, IR_VERSION),
    ...(producer === undefined ? [] : [text(2, producer)]),
    message(7,
      ...nodes.map(encodeNode),
      text(2, "graph"),
      ...[...constants].map(([name, values]) => message(5, int(1, values.length), int(2, ELEMENT.int64), ...values.map((v) => int(7, v)), text(8, name))),
      ...[...scalars].map(([name, value]) => message(5, int(2, ELEMENT.float32), float(4, value), text(8, name))),
      ...weights.map(encodeWeight),
      ...inputs.map((value) => encodeValue(11, value)),
      ...outputs.map((value) => encodeValue(12, value))),
    message(8, text(1, ""), int(2, OPSET)),
    message(8, text(1, "com.microsoft"), int(2, 1)),
  );
}

const encodeNode = ({ op, domain, inputs, outputs, ints = {}, lists = {}, floats = {}, strings = {} }: OnnxNode): Bytes => message(1,
  ...inputs.map((name) => text(1, name)),
  ...outputs.map((name) => text(2, name)),
  text(4, op),
  ...Object.entries(floats).map(([name, value]) => message(5, text(1, name), float(2, value), int(20, 1))),
  ...Object.entries(ints).map(([name, value]) => message(5, text(1, name), int(3, value), int(20, 2))),
  ...Object.entries(lists).map(([name, values]) => message(5, text(1, name), ...values.map((value) => int(8, value)), int(20, 7))),
  ...Object.entries(strings).map(([name, value]) => message(5, text(1, name), text(4, value), int(20, 3))),
  text(7, domain ?? ""));

const encodeValue = (field: number, { name, type, shape }: OnnxValue): Bytes => message(field,
  text(1, name),
  message(2, message(1,
    int(1, ELEMENT[type]),
    message(2, ...shape.map((dim) => message(1, typeof dim === "number" ? int(1, dim) : text(2, dim)))))));

/** TensorProto.DataLocation. */
export const EXTERNAL = 1;

const encodeWeight = ({ name, type, shape, file, start, end }: OnnxWeight): Bytes => message(5,
  ...shape.map((size) => int(1, size)),
  int(2, ELEMENT[type]),
  text(8, name),
  ...Object.entries({ location: file, offset: String(start), length: String(end - start) }).map(([key, value]) => message(13, text(1, key), text(2, value))),
  int(14, EXTERNAL));
