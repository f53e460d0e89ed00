import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { channelOrder, groupOfChannel } from "#src/quantize/order.js";
import { ORDERS } from "#src/quantize/scheme.js";
import { referenceOrder } from "./reference.js";

const diagonal = [1, 5, 5, 2, 9, 0, 3, 3];

describe("channelOrder", () => {
  it("leaves channels as they lie", () => {
    expect([...channelOrder("natural", diagonal, 4)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("sorts all of them by falling diagonal, stably", () => {
    expect([...channelOrder("act", diagonal, 4)]).toEqual([4, 1, 2, 6, 7, 3, 0, 5]);
  });

  it("sorts inside groups, then the groups by their largest", () => {
    expect([...channelOrder("group-aware", diagonal, 4)]).toEqual([4, 6, 7, 5, 1, 2, 3, 0]);
    expect([...channelOrder("group-aware", [1, 2, 2, 1, 0, 2], 2)]).toEqual([1, 0, 2, 3, 5, 4]);
  });

  it("sorts groups inside units, and then the units", () => {
    expect([...channelOrder("group-aware", [1, 2, 9, 0, 3, 4, 5, 5], 2, 4)]).toEqual([2, 3, 1, 0, 6, 7, 5, 4]);
  });

  it("agrees with a plain reference", () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.nat(9), { minLength: 8, maxLength: 8 }), { minLength: 1, maxLength: 12 }), fc.constantFrom(...ORDERS), fc.constantFrom(4, 8), (units, order, unit) => {
        const d = units.flat();
        expect([...channelOrder(order, d, 4, unit)]).toEqual(referenceOrder(order, d, 4, unit));
      }),
    );
  });
});

describe("groupOfChannel", () => {
  it("counts groups along the order", () => {
    expect([...groupOfChannel(Int32Array.of(3, 0, 2, 1), 2)!]).toEqual([0, 1, 1, 0]);
  });

  it("is nothing where the groups lie side by side", () => {
    expect(groupOfChannel(Int32Array.of(1, 0, 3, 2), 2)).toBeUndefined();
    expect(groupOfChannel(Int32Array.of(3, 0, 2, 1), 4)).toBeUndefined();
  });
});
