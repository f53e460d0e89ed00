import { InputError } from "../errors.js";
import { isJsonObject, quote } from "../safetensors/json.js";

/**
 * Sizes beyond this are absurd: the widest open models stay below 2²⁰. With it the product of any two sizes is a safe integer.
 */
const LARGEST_SIZE = 2 ** 26;

/**
 * A JSON object whose fields are read one by one, each checked as it is read. `null` counts as absent, as it does in transformers.
 * Every error is an `InputError` that names the file, the field and what is wrong with it.
 */
export class Fields {
  private constructor(
    private readonly values: Readonly<Record<string, unknown>>,
    /** The file, for messages. */
    readonly file: string,
    /** Where in the file this object lies: "" or "rope_scaling.". */
    private readonly path: string,
  ) {}

  /** `json` is what JSON.parse made of `file`. */
  static of(json: unknown, file: string): Fields {
    if (!isJsonObject(json)) throw new InputError(`${file}: it must hold a JSON object, but holds ${quote(json)}`);
    return new Fields(json, file, "");
  }

  has(name: string): boolean {
    return this.value(name) !== undefined;
  }

  /** Whether the field is there and null, for the few where that differs from absence. */
  isNull(name: string): boolean {
    return Object.hasOwn(this.values, name) && this.values[name] === null;
  }

  /** A whole number from 1 to `most`. Without a default the field must be there. */
  size(name: string, byDefault?: number, most = LARGEST_SIZE): number {
    return this.read(name, byDefault, `a whole number from 1 to ${most}`, (value): value is number => isSize(value) && value <= most);
  }

  /** A whole number from 0 to 2²⁶. */
  count(name: string, byDefault: number): number {
    return this.read(name, byDefault, `a whole number from 0 to ${LARGEST_SIZE}`, (value): value is number => value === 0 || isSize(value));
  }

  /** A finite number above 0. */
  positive(name: string, byDefault?: number): number {
    return this.read(name, byDefault, "a number above 0", isPositive);
  }

  boolean(name: string, byDefault: boolean): boolean {
    return this.read(name, byDefault, "true or false", (value) => typeof value === "boolean");
  }

  string(name: string, byDefault?: string): string {
    return this.read(name, byDefault, "a string", (value) => typeof value === "string");
  }

  /** A list of strings, or nothing where the field is absent. */
  list(name: string): string[] | undefined {
    return this.has(name)
      ? this.read(name, undefined, "a list of strings", (value): value is string[] =>
        Array.isArray(value) && value.every((entry) => typeof entry === "string"))
      : undefined;
  }

  /** `length` numbers above 0. */
  positives(name: string, length: number): number[] {
    return this.read(name, undefined, `a list of ${length} numbers above 0`, (value): value is number[] =>
      Array.isArray(value) && value.length === length && value.every(isPositive));
  }

  /** `length` strings out of `known`. */
  strings<T extends string>(name: string, length: number, known: readonly T[]): T[] {
    return this.read(name, undefined, `a list of ${length} strings out of ${known.join(", ")}`, (value): value is T[] =>
      Array.isArray(value) && value.length === length && value.every((entry) => known.includes(entry as T)));
  }

  /** An object inside; an empty one counts as absent, as in transformers. */
  object(name: string): Fields | undefined {
    const value = this.value(name);
    if (value === undefined) return undefined;
    if (!isJsonObject(value)) throw this.wrong(name, `must be an object, but is ${quote(value)}`);
    return Object.keys(value).length === 0 ? undefined : new Fields(value, this.file, `${this.path}${name}.`);
  }

  /** An empty object, for fields that all have defaults. */
  empty(name: string): Fields {
    return new Fields({}, this.file, `${this.path}${name}.`);
  }

  /** Refuses any value but `harmless` (or absence) in a field that changes what the model computes. */
  refuseUnless(name: string, harmless: unknown, because: string): void {
    const value = this.value(name);
    if (value !== undefined && value !== harmless) throw this.wrong(name, `is ${quote(value)}: ${because}`);
  }

  /** The error to throw for a field: `what` goes on after its name. */
  wrong(name: string, what: string): InputError {
    return new InputError(`${this.file}: ${this.path}${name} ${what}`);
  }

  private value(name: string): unknown {
    return Object.hasOwn(this.values, name) ? (this.values[name] ?? undefined) : undefined;
  }

  private read<T>(name: string, byDefault: T | undefined, what: string, is: (value: unknown) => value is T): T {
    const value = this.value(name);
    if (value === undefined) {
      if (byDefault === undefined) throw this.wrong(name, `is missing; it must be ${what}`);
      return byDefault;
    }
    if (!is(value)) throw this.wrong(name, `must be ${what}, but is ${quote(value)}`);
    return value;
  }
}

function isSize(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= LARGEST_SIZE;
}

function isPositive(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value > 0;
}
