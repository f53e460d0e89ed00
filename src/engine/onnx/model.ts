import { float, int, message, text } from "./protobuf.js";

/** Element types by their number in ONNX's TensorProto.DataType. */
const ELEMENT = { float32: 1, int32: 6, int64: 7, float64: 11 } as const;

/** An ONNX model as data: what `encodeModel` turns into a file's bytes. */
export interface OnnxModel {
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly nodes: readonly OnnxNode[];
  /** Constant vectors of int64, by name (shapes). */
  readonly constants?: ReadonlyMap<string, readonly number[]>;
}

interface OnnxValue {
  readonly name: string;
  readonly type: keyof typeof ELEMENT;
  /** A string is the name of a dimension that is known only when the model runs. */
  readonly shape: readonly (number | string)[];
}

export interface OnnxNode {
  readonly op: string;
  /** `com.microsoft` marks ONNX Runtime's own operators. */
  readonly domain?: "com.microsoft";
  /** An empty name leaves an optional input out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly ints?: Readonly<Record<string, number>>;
  readonly floats?: Readonly<Record<string, number>>;
  readonly strings?: Readonly<Record<string, string>>;
}

// Field numbers are those of onnx.proto. Opset 21 is the newest that needs nothing newer than IR version 10.
const IR_VERSION = 10;
const OPSET = 21;

/** The bytes of an .onnx file. */
export function encodeModel({ inputs, outputs, nodes, constants = new Map() }: OnnxModel): Uint8Array {
  return Uint8Array.from([
    ...int(1, IR_VERSION),
    ...message(7,
      ...nodes.map(encodeNode),
      text(2, "graph"),
      ...[...constants].map(([name, values]) => message(5, int(1, values.length), int(2, ELEMENT.int64), ...values.map((v) => int(7, v)), text(8, name))),
      ...inputs.map((value) => encodeValue(11, value)),
      ...outputs.map((value) => encodeValue(12, value))),
    ...message(8, text(1, ""), int(2, OPSET)),
    ...message(8, text(1, "com.microsoft"), int(2, 1)),
  ]);
}

const encodeNode = ({ op, domain, inputs, outputs, ints = {}, floats = {}, strings = {} }: OnnxNode) => message(1,
  ...inputs.map((name) => text(1, name)),
  ...outputs.map((name) => text(2, name)),
  text(4, op),
  ...Object.entries(floats).map(([name, value]) => message(5, text(1, name), float(2, value), int(20, 1))),
  ...Object.entries(ints).map(([name, value]) => message(5, text(1, name), int(3, value), int(20, 2))),
  ...Object.entries(strings).map(([name, value]) => message(5, text(1, name), text(4, value), int(20, 3))),
  text(7, domain ?? ""));

const encodeValue = (field: number, { name, type, shape }: OnnxValue) => message(field,
  text(1, name),
  message(2, message(1,
    int(1, ELEMENT[type]),
    message(2, ...shape.map((dim) => message(1, typeof dim === "number" ? int(1, dim) : text(2, dim)))))));
