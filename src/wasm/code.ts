/**
 * WebAssembly (its core specification, 2.0) as data: code that leaves one value on the stack, or none. For the few loops in which a quantization spends its
 * time: on vectors of four floats they are several times as fast as in JavaScript, which computes with doubles one by one.
 */
export type Code = readonly number[];

/** Value types. */
const I32 = 0x7f;
export type Type = typeof I32 | Lanes["type"];

/** A local variable, or a parameter. */
export interface Local {
  readonly get: Code;
  set(value: Code): Code;
}

/** A function that gives nothing back: parameters of 32-bit integers, further locals, and what it does. */
export interface Func {
  readonly params: number;
  readonly locals: readonly Type[];
  readonly body: Code;
}

/** Declares locals of the function that is being written. */
export type Declare = (type?: Type) => Local;

/** A function of `params` integers. */
export function func(params: number, write: (params: readonly Local[], declare: Declare) => Code): Func {
  const locals: Type[] = [];
  const declare: Declare = (type = I32) => localOf(params + locals.push(type) - 1);
  const body = write(Array.from({ length: params }, (_, index) => localOf(index)), declare);
  return { params, locals, body };
}

function localOf(index: number): Local {
  return { get: [0x20, ...unsigned(index)], set: (value) => [...value, 0x21, ...unsigned(index)] };
}

/** A constant integer below 2³¹. */
export const int = (value: number): Code => [0x41, ...signed(value)];
/** The sum of integers. */
export const sum = (...terms: readonly Code[]): Code => terms.reduce((a, b) => [...a, ...b, 0x6a]);

/** Floats that are computed with at a time: four in a vector, or one. */
export interface Lanes {
  readonly type: 0x7b | 0x7d;
  readonly bytes: number;
  readonly load: (address: Code, offset?: number) => Code;
  readonly store: (address: Code, value: Code, offset?: number) => Code;
  /** The float at an address, in all lanes. */
  readonly splat: (address: Code) => Code;
  readonly zero: Code;
  readonly add: (a: Code, b: Code) => Code;
  readonly sub: (a: Code, b: Code) => Code;
  readonly mul: (a: Code, b: Code) => Code;
  readonly div: (a: Code, b: Code) => Code;
  /** Of numbers: what comes of NaN is left open, for which reason it is one instruction. */
  readonly min: (a: Code, b: Code) => Code;
  readonly max: (a: Code, b: Code) => Code;
  /** The nearest integer, halves to the even one. */
  readonly nearest: (a: Code) => Code;
}

export const F32X4: Lanes = lanes(0x7b, 16, {
  load: vector(0x00), store: vector(0x0b), splat: vector(0x09), zero: [0x43, 0, 0, 0, 0, ...vector(0x13)],
  add: vector(0xe4), sub: vector(0xe5), mul: vector(0xe6), div: vector(0xe7), min: vector(0xea), max: vector(0xeb), nearest: vector(0x6a),
});
export const F32: Lanes = lanes(0x7d, 4, {
  load: [0x2a], store: [0x38], splat: [0x2a], zero: [0x43, 0, 0, 0, 0],
  add: [0x92], sub: [0x93], mul: [0x94], div: [0x95], min: [0x96], max: [0x97], nearest: [0x90],
});

function vector(opcode: number): number[] {
  return [0xfd, ...unsigned(opcode)];
}

function lanes(type: Lanes["type"], bytes: number, op: Readonly<Record<Exclude<keyof Lanes, "type" | "bytes">, Code>>): Lanes {
  const two = (name: keyof typeof op) => (a: Code, b: Code): Code => [...a, ...b, ...op[name]];
  // Two to the second: floats lie at multiples of their size.
  const place = (offset: number): Code => [2, ...unsigned(offset)];
  return {
    type, bytes, zero: op.zero,
    load: (address, offset = 0) => [...address, ...op.load, ...place(offset)],
    store: (address, value, offset = 0) => [...address, ...value, ...op.store, ...place(offset)],
    splat: (address) => [...address, ...op.splat, ...place(0)],
    add: two("add"), sub: two("sub"), mul: two("mul"), div: two("div"), min: two("min"), max: two("max"),
    nearest: (a) => [...a, ...op.nearest],
  };
}

/** Adds `step` to `counter`, as long as that does not go beyond `limit`, after running `body`. */
export function repeat(counter: Local, step: Code, limit: Code, body: Code): Code {
  const next = sum(counter.get, step);
  return [0x03, 0x40, ...next, ...limit, 0x4d, 0x04, 0x40, ...body, ...counter.set(next), 0x0c, 1, 0x0b, 0x0b];
}

/** A module of functions that work on the memory which it imports as `memory` of "". */
export function moduleOf(functions: Readonly<Record<string, Func>>): Uint8Array<ArrayBuffer> {
  const all = Object.values(functions);
  const indexed = (parts: readonly Code[]): Code => [...unsigned(parts.length), ...parts.flat()];
  const sized = (code: Code): Code => [...unsigned(code.length), ...code];
  const text = (value: string): Code => sized([...new TextEncoder().encode(value)]);
  const section = (id: number, parts: readonly Code[]): Code => [id, ...sized(indexed(parts))];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, all.map(({ params }) => [0x60, ...unsigned(params), ...Array<number>(params).fill(I32), 0])),
    ...section(2, [[...text(""), ...text("memory"), 2, 0, 0]]),
    ...section(3, all.map((_, i) => unsigned(i))),
    ...section(7, Object.keys(functions).map((name, i) => [...text(name), 0, ...unsigned(i)])),
    ...section(10, all.map(({ locals, body }) => sized([...indexed(locals.map((type) => [1, type])), ...body, 0x0b]))),
  ]);
}

/** LEB128. */
function unsigned(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...unsigned(Math.floor(value / 128))];
}

function signed(value: number): number[] {
  return value < 64 ? [value] : [(value & 127) | 128, ...signed(value >>> 7)];
}
