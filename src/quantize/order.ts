import type { Order } from "./scheme.js";

/**
 * The order in which GPTQ visits the input channels: result[p] is the channel at position p. Sorting is stable, so equal
 * channels stay as they lie.
 * @param diagonal the Hessian's diagonal [n]
 * @param groupSize a divisor of n
 * @param unit channels of whole groups that the group-aware order keeps together as well, a divisor of n
 */
export function channelOrder(order: Order, diagonal: ArrayLike<number>, groupSize: number, unit = groupSize): Int32Array<ArrayBuffer> {
  const natural = Int32Array.from({ length: diagonal.length }, (_, i) => i);
  const falling = (a: number, b: number) => diagonal[b] - diagonal[a];
  switch (order) {
    case "natural":
      return natural;
    case "act":
      return natural.sort(falling);
    case "group-aware":
      return nested(natural, [unit, groupSize]);
  }

  /** Parts of the first length in the order of their largest channels, in each of them parts of the next length, and at last single channels. */
  function nested(channels: Int32Array<ArrayBuffer>, [length, ...inner]: readonly number[]): Int32Array<ArrayBuffer> {
    if (length === undefined) return channels.sort(falling);
    const parts = Array.from({ length: channels.length / length }, (_, k) => nested(channels.slice(k * length, (k + 1) * length), inner));
    // A part's first channel is by now its largest.
    parts.sort((a, b) => falling(a[0], b[0]));
    return Int32Array.from(parts.flatMap((part) => [...part]));
  }
}

/**
 * The group of each channel, when groups are cut from the channels in that order; undefined where they lie side by side anyway.
 */
export function groupOfChannel(permutation: Int32Array, groupSize: number): Int32Array<ArrayBuffer> | undefined {
  const groupOf = new Int32Array(permutation.length);
  permutation.forEach((channel, position) => (groupOf[channel] = Math.floor(position / groupSize)));
  return groupOf.every((group, channel) => group === Math.floor(channel / groupSize)) ? undefined : groupOf;
}

/** Where a checkpoint keeps the group, or super-block, of `length` channels that begins at a position: in act order they are cut from the channels in that order. */
export function placeOf({ order, permutation }: { readonly order: Order; readonly permutation: Int32Array }, position: number, length: number): number {
  return Math.floor((order === "act" ? position : permutation[position]) / length);
}
