import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allocate, type Choice } from "#src/quantize/allocate.js";

const total = (groups: readonly (readonly Choice[])[], picks: readonly number[], what: keyof Choice): number => picks.reduce((sum, pick, g) => sum + groups[g][pick][what], 0);

/** All assignments, one by one. */
function everyAssignment(groups: readonly (readonly Choice[])[]): number[][] {
  return groups.reduce<number[][]>((all, choices) => all.flatMap((picks) => choices.map((_, i) => [...picks, i])), [[]]);
}

const choice = fc.record({ cost: fc.integer({ min: 1, max: 40 }), loss: fc.integer({ min: 0, max: 1000 }) });

describe("allocation", () => {
  it("loses the least that any assignment within the budget loses", () => {
    fc.assert(
      fc.property(fc.array(fc.array(choice, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 6 }), fc.integer({ min: 0, max: 160 }), (groups, budget) => {
        const affordable = everyAssignment(groups).filter((picks) => total(groups, picks, "cost") <= budget);
        const picks = allocate(groups, budget);
        if (affordable.length === 0) {
          expect(picks).toBeUndefined();
        } else {
          expect(total(groups, picks!, "cost")).toBeLessThanOrEqual(budget);
          expect(total(groups, picks!, "loss")).toBe(Math.min(...affordable.map((one) => total(groups, one, "loss"))));
        }
      }),
      { numRuns: 300 },
    );
  });

  it("stays within the budget and close to the bound of the convex hull where there are many groups", () => {
    let seed = 1;
    const random = (): number => (seed = (seed * 48271) % 2147483647) / 2147483647;
    const groups = Array.from({ length: 120 }, () => {
      const weights = 1000 + Math.floor(random() * 1e6);
      const loss = random() ** 4;
      return [3.3, 4.3, 8.3, 16].map((bits) => ({ cost: Math.floor(bits * weights), loss: bits === 16 ? 0 : loss * 4 ** (3 - bits) }));
    });
    const all = groups.reduce((sum, [, four]) => sum + four.cost, 0);
    for (const budget of [0.8 * all, 1.05 * all, 1.5 * all, 3 * all]) {
      const picks = allocate(groups, budget)!;
      expect(total(groups, picks, "cost")).toBeLessThanOrEqual(budget);
      // Lagrange's bound: for any price a bit, Σ min (loss + price · cost) − price · budget is no more than the best.
      let bound = -Infinity;
      for (let price = 1e-12; price < 1; price *= 1.02) {
        bound = Math.max(bound, groups.reduce((sum, choices) => sum + Math.min(...choices.map(({ cost, loss }) => loss + price * cost)), 0) - price * budget);
      }
      expect(total(groups, picks, "loss")).toBeLessThanOrEqual(1.01 * bound + 1e-9);
    }
  });

  it("takes the cheapest where just those can be paid, with a budget in fractions", () => {
    const groups = Array.from({ length: 300 }, () => [{ cost: 3, loss: 2 }, { cost: 1, loss: 3 }]);
    expect(new Set(allocate(groups, (300 / 7) * 7))).toEqual(new Set([1]));
    expect(allocate(groups, 299)).toBeUndefined();
  });
});
