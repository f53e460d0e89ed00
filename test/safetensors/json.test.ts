import fc from "fast-check";
import { expect, test } from "vitest";
import { InputError } from "#src/errors.js";
import { parseJsonObject, quote } from "#src/safetensors/json.js";

const parse = (text: string, depth = 8): unknown => parseJsonObject(new TextEncoder().encode(text), "a.json", depth);

test.each([
  ['{"a":1,"b":{"a":2},"a":3}', 'a.json repeats the key "a"'],
  ['{"a":1,"\\u0061":3}', 'a.json repeats the key "a"'],
  ['{"x":[{"k":[1,2],"j":"k","k":0}]}', 'a.json repeats the key "k"'],
  ['{"__proto__":1,"__proto__":2}', 'a.json repeats the key "__proto__"'],
  ['{"":1,"":2}', 'a.json repeats the key ""'],
  ['{"a":[[[[[[[[1]]]]]]]]}', "a.json nests deeper than 8 levels"],
  ["[1]", "a.json is not a JSON object"],
  ["null", "a.json is not a JSON object"],
  ['"{}"', "a.json is not a JSON object"],
])("refuses %s", (text, message) => {
  expect(() => parse(text)).toThrow(new InputError(message));
});

test.each(["", "{", '{"a"', '{"a', '{"a\\', "}{", "]", '{,"a":1}', '{"\\x":1}', "{'a':1}", '{"a":01}', '{"a":NaN}', '\uFEFF{"a":1}'])(
  "refuses what is not JSON: %j",
  (text) => {
    let reason = "";
    try {
      JSON.parse(text);
    } catch (error) {
      reason = (error as Error).message;
    }
    expect(reason).not.toBe("");
    expect(() => parse(text)).toThrow(new InputError(`a.json is not valid JSON: ${reason}`));
  },
);

test("refuses bytes that are not UTF-8", () => {
  expect(() => parseJsonObject(Uint8Array.of(0x7b, 0x22, 0xff, 0x22), "a.json", 8)).toThrow(new InputError("a.json is not valid UTF-8"));
});

test("a million levels are refused as ten are", () => {
  expect(() => parse('{"a":' + "[".repeat(1_000_000))).toThrow(new InputError("a.json nests deeper than 8 levels"));
});

test("the same key in sibling objects, and as a value, is no repeat", () => {
  expect(parse('{"a":{"k":"k"},"b":{"k":"a"},"c":["a","a",{"k":1},{"k":1}]}')).toEqual({ a: { k: "k" }, b: { k: "a" }, c: ["a", "a", { k: 1 }, { k: 1 }] });
});

test("__proto__ is a key like any other", () => {
  const value = parse('{"__proto__":{"polluted":true}}') as object;
  expect(Object.keys(value)).toEqual(["__proto__"]);
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
});

test("reads what JSON.stringify writes, as JSON.parse does", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue({ maxDepth: 6, stringUnit: "binary" })), fc.nat(3), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      // JSON.stringify writes lone surrogates as escapes, so that UTF-8 loses nothing.
      expect(parse(text, 100)).toEqual(JSON.parse(text));
    }),
  );
});

test("a key repeated anywhere is found", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string({ unit: "binary" }), { minLength: 1 }), fc.nat(), fc.nat(), (keys, which, where) => {
      const fields = keys.map((key) => `${JSON.stringify(key)}:[{},"${"\\\\".repeat(which % 3)}"]`);
      expect(() => parse(`{${fields.join(",")}}`)).not.toThrow();
      const key = keys[which % keys.length];
      fields.splice(where % (fields.length + 1), 0, `${JSON.stringify(key)}:0`);
      expect(() => parse(`{${fields.join(",")}}`)).toThrow(new InputError(`a.json repeats the key ${quote(key)}`));
    }),
  );
});

test("quotes are short and cannot steer a terminal", () => {
  expect(quote("a\u009b2J\u001b[2J\u007f")).toBe('"a\\u009b2J\\u001b[2J\\u007f"');
  expect(quote("x".repeat(1000))).toBe(`"${"x".repeat(199)}…`);
  expect(quote({ a: [1, null] })).toBe('{"a":[1,null]}');
});
