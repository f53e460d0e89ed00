import type { QuantScheme } from "../quantize/scheme.js";

/** Whether linears of different bits lie side by side. */
export function severalBits(schemes: readonly QuantScheme[]): boolean {
  return new Set(schemes.map(({ bits }) => bits)).size > 1;
}
