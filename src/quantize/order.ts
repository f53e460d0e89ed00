import type { Order } from "./scheme.js";

/**
 * The order in which GPTQ visits the input channels: result[p] is the channel at position p. Sorting is stable, so equal
 * channels stay as they lie.
 * @param diagonal the Hessian's diagonal [n]
 * @param groupSize a divisor of n
 */
export function channelOrder(order: Order, diagonal: ArrayLike<number>, groupSize: number): Int32Array<ArrayBuffer> {
  const natural = Int32Array.from({ length: diagonal.length }, (_, i) => i);
  const falling = (a: number, b: number) => diagonal[b] - diagonal[a];
  switch (order) {
    case "natural":
      return natural;
    case "act":
      return natural.sort(falling);
    case "group-aware": {
      const groups = Array.from({ length: diagonal.length / groupSize }, (_, k) => natural.slice(k * groupSize, (k + 1) * groupSize).sort(falling));
      // A group's first channel is by now its largest.
      groups.sort((a, b) => falling(a[0], b[0]));
      return Int32Array.from(groups.flatMap((group) => [...group]));
    }
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
