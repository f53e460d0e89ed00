import type { Activations } from "./engine.js";

/** The activations that are called `name` wherever they come from. Throws where they are missing, of another width, or not as long as they say. */
export function checked(name: string, width: number, activations: Activations | undefined): Activations {
  if (activations === undefined) throw new Error(`The graph's input ${name} is missing.`);
  const { batch, tokens, data } = activations;
  if (activations.width !== width) throw new Error(`The input ${name} is ${activations.width} wide instead of ${width}.`);
  if (data.length !== batch * tokens * width) throw new Error(`The input ${name} has ${data.length} values instead of ${batch}·${tokens}·${width}.`);
  return activations;
}

/** What two models see of the same tokens. Throws where it cannot be that. */
export function checkedPair(width: number, x: Activations, original: Activations): readonly [Activations, Activations] {
  const pair = [checked("x", width, x), checked("original", width, original)] as const;
  if (x.data.length !== original.data.length) throw new Error(`The inputs x and original have ${x.data.length} and ${original.data.length} values; they must be of the same tokens.`);
  return pair;
}
