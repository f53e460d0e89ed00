import type { Bits } from "../quantize/scheme.js";

/**
 * Why a format cannot hold so many bits; undefined if it can.
 * @param why what its readers do with them, where that is not told by the numbers that it holds
 */
export function refusesBits({ name, bits: held }: { readonly name: string; readonly bits: readonly Bits[] }, bits: number, why?: string): string | undefined {
  if (isHeld(held, bits)) return undefined;
  return `${name} holds ${listed(held)} bits, not ${String(bits)}${why === undefined ? "" : `: ${why}`}`;
}

/** Whether what a config says are bits, of those that a format holds. */
export function isHeld<B extends Bits>(held: readonly B[], bits: unknown): bits is B {
  return (held as readonly unknown[]).includes(bits);
}

/** "2, 3 or 4" */
export function listed(held: readonly Bits[]): string {
  return held.length === 1 ? String(held[0]) : `${held.slice(0, -1).join(", ")} or ${String(held.at(-1))}`;
}
